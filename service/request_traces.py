"""A span for each request, of the trace that its client named in the header `traceparent`, or of a new one."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.core import tracing
from service.request_metrics import method_of, route_of
from service.response_start import at_start


class RequestTraces:
    """Names route and status, tenant and request id: never a path, which is its client's."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status: int | None = None

        def note(message: Message) -> None:
            nonlocal status
            status = message["status"]

        parent = Headers(scope=scope).get("traceparent")
        with tracing.span("request", parent=parent, kind="server", request_id=scope["state"]["request_id"]) as span:
            try:
                await self.app(scope, receive, at_start(send, note))
            finally:
                span.answer(method_of(scope), route_of(scope), status)
                if caller := scope["state"].get("caller"):
                    span.note(tenant=caller.tenant)
