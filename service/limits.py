"""The size of request bodies, of each and of all together. They are counted while they arrive, before they are parsed.

What a body costs depends on who reads it. An archive and an imported table go to the disk piece by piece. The files of
a form wait on the disk, and are in memory while their images are worked on. JSON is in memory as it came, as text of
its fields, and as what this encodes.
"""

from typing import NamedTuple

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import problems
from service.core.errors import TooLarge
from service.core.settings import Settings

FORM_OVERHEAD_BYTES = 64 * 1024  # boundaries and the text fields beside an uploaded archive
SMALL_BYTES = 64 * 1024  # of which there is always room: as many as there are connections are 32 MB
FORM_WEIGHT, JSON_WEIGHT = 1, 3  # bytes of memory for a byte of the body, until it is answered
RETRY_AFTER = {"Retry-After": "1"}


class Limit(NamedTuple):
    """Bytes that a body may have, the setting that says so, and the memory that each takes."""

    num_bytes: int
    setting: str
    weight: int


class BodyLimit:
    """Answers 413 to a body that is too large, by what it says or by what comes, and 429 to one for which no room is.

    For one event loop.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.settings = settings
        self._memory_bytes = 0  # of the bodies that are read or worked on

    def limit(self, scope: Scope, headers: Headers) -> Limit:
        """What a request's body may have."""
        if scope["path"] == "/v1/datasets":
            return Limit(self.settings.max_archive_bytes + FORM_OVERHEAD_BYTES, "SIMCLR_MAX_ARCHIVE_BYTES", 0)
        most = Limit(self.settings.max_request_bytes, "SIMCLR_MAX_REQUEST_BYTES", 0)
        if scope["path"].endswith("/import"):
            return most
        is_form = headers.get("content-type", "").startswith("multipart/form-data")
        weight = FORM_WEIGHT if is_form else JSON_WEIGHT
        alone = Limit(self.settings.max_bytes_in_flight // weight, "SIMCLR_MAX_BYTES_IN_FLIGHT", weight)
        return min(alone, most._replace(weight=weight))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        limit = self.limit(scope, headers)
        declared = headers.get("content-length")
        if declared is not None and int(declared) > limit.num_bytes:  # the server has checked that it is a number
            await problems.respond(TooLarge(_detail(limit)))(scope, receive, send)
            return
        num_bytes = 0

        async def receive_counted() -> Message:
            nonlocal num_bytes
            message = await receive()
            size = len(message.get("body", b""))
            num_bytes += size
            self._memory_bytes += size * limit.weight
            # Of all exceptions, FastAPI lets only this one through while it parses a body.
            if num_bytes > limit.num_bytes:
                raise HTTPException(413, _detail(limit))
            is_full = self._memory_bytes > self.settings.max_bytes_in_flight
            if is_full and size and limit.weight and num_bytes > SMALL_BYTES:
                raise HTTPException(429, "the bodies of other requests take all the room; try again", RETRY_AFTER)
            return message

        try:
            await self.app(scope, receive_counted, send)
        finally:
            self._memory_bytes -= num_bytes * limit.weight


def _detail(limit: Limit) -> str:
    most = f"the limit of {limit.num_bytes:,} bytes"
    return f"the request body is over {most}; the service's setting {limit.setting} raises it"
