"""The size of a request body. It is counted while it arrives, before anything parses or keeps it."""

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import problems
from service.core.errors import TooLarge
from service.core.settings import Settings

FORM_OVERHEAD_BYTES = 64 * 1024  # boundaries and the text fields beside an uploaded archive


class BodyLimit:
    """Answers 413 to a body that says it is too large, and to one that turns out to be."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.settings = settings

    def limit(self, scope: Scope) -> tuple[int, str]:
        """Bytes that a request may have, and the setting that says so."""
        if scope["path"] == "/v1/datasets":
            return self.settings.max_archive_bytes + FORM_OVERHEAD_BYTES, "SIMCLR_MAX_ARCHIVE_BYTES"
        return self.settings.max_request_bytes, "SIMCLR_MAX_REQUEST_BYTES"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        limit, setting = self.limit(scope)
        declared = Headers(scope=scope).get("content-length")
        if declared is not None and int(declared) > limit:  # the server has checked that it is a number
            response = problems.respond(TooLarge(_detail(limit, setting)))
            await response(scope, receive, send)
            return
        num_bytes = 0

        async def receive_counted() -> Message:
            nonlocal num_bytes
            message = await receive()
            num_bytes += len(message.get("body", b""))
            if num_bytes > limit:
                # Of all exceptions, FastAPI lets only this one through while it parses a body.
                raise HTTPException(413, _detail(limit, setting))
            return message

        await self.app(scope, receive_counted, send)


def _detail(limit: int, setting: str) -> str:
    return f"the request body is over the limit of {limit:,} bytes; the service's setting {setting} raises it"
