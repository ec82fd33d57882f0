"""The type of a request's body: one that its operation doesn't take is refused before a byte of it is read."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service import problems
from service.core.errors import UnsupportedMedia
from service.scopes import Operation


def content_type(headers: Headers) -> str:
    """The media type of a body, without parameters; empty if none is given, or more than one."""
    given = headers.getlist("content-type")
    return given[0].partition(";")[0].strip().lower() if len(given) == 1 else ""


class ContentTypes:
    """Answers 415. Its operation is in the request's state (service/authentication.py)."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            operation: Operation | None = scope["state"]["operation"]
            given = content_type(Headers(scope=scope))
            if operation and operation.media_types and given not in operation.media_types:
                detail = (
                    f"Content-Type: {' or '.join(sorted(operation.media_types))}, not {given or 'none, or several'}"
                )
                await problems.respond(UnsupportedMedia(detail))(scope, receive, send)
                return
        await self.app(scope, receive, send)
