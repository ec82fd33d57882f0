"""Each request has an id: in its answer, in the records that it logs, and in the audit log."""

import structlog
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.core.ids import new_id
from service.response_start import at_start

HEADER = "X-Request-Id"


class RequestIds:
    """Gives the id, as `request_id` in the request's state."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = new_id("req")
        scope.setdefault("state", {})["request_id"] = request_id
        structlog.contextvars.bind_contextvars(request_id=request_id)  # the server runs each request in a context

        def add_id(message: Message) -> None:
            MutableHeaders(scope=message)[HEADER] = request_id

        await self.app(scope, receive, at_start(send, add_id))
