"""A span for each request, of the trace that its client named in the header `traceparent`, or of a new one."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.core import tracing
from service.request_metrics import method_of, route_of


class RequestTraces:
    """Names route and status, tenant and request id: never a path, which is its client's."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status: int | None = None

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        parent = Headers(scope=scope).get("traceparent")
        with tracing.span("request", parent=parent, kind="server", request_id=scope["state"]["request_id"]) as span:
            try:
                await self.app(scope, receive, send_and_note)
            finally:
                span.answer(method_of(scope), route_of(scope), status)
                if caller := scope["state"].get("caller"):
                    span.note(tenant=caller.tenant)
