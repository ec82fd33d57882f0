"""Blobs as responses."""

from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from fastapi import Request
from starlette.responses import FileResponse, MalformedRangeHeader, Response
from starlette.responses import RangeNotSatisfiable as BeyondEnd
from starlette.types import Receive, Scope, Send

from service import problems
from service.core.errors import NotFound, RangeNotSatisfiable
from service.core.storage import Storage


class _Beyond(Exception):
    """The file, of so many bytes, ends before a range."""

    def __init__(self, num_bytes: int) -> None:
        super().__init__(num_bytes)
        self.num_bytes = num_bytes


class Blob(FileResponse):
    """A file, whole or in ranges; what it lies in is closed at the end, however that comes.

    Starlette answers a range that it can't read with 400, as text; it is to be passed over (RFC 9110, 14.2).
    """

    def __init__(self, path: Path, media_type: str, stack: ExitStack) -> None:
        super().__init__(path, media_type=media_type)
        self._stack = stack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._stack:
            try:
                await super().__call__(scope, receive, send)
            except _Beyond as error:
                refusal = RangeNotSatisfiable(f"the file ends after {error.num_bytes:,} bytes")
                headers = {"Content-Range": f"bytes */{error.num_bytes}"}
                await problems.respond(refusal, headers)(scope, receive, send)

    @classmethod
    def _parse_range_header(cls, http_range: str, file_size: int) -> list[tuple[int, int]]:
        try:
            return super()._parse_range_header(http_range, file_size)
        except MalformedRangeHeader:
            return []
        except BeyondEnd as error:
            raise _Beyond(error.max_size) from error


def send_blob(storage: Storage, key: str, *, media_type: str) -> Blob:
    """The blob, in pieces; where the storage is elsewhere, from a copy that is deleted afterwards. Raises NotFound.

    It is open from here on: one that is deleted meanwhile is sent to its end.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory())
        path = storage.fetch(key, Path(folder) / "blob")
        try:
            file = stack.enter_context(path.open("rb"))
        except FileNotFoundError as error:
            raise NotFound(f"the storage has no blob {key!r}") from error
        return Blob(Path(f"/dev/fd/{file.fileno()}"), media_type, stack.pop_all())


def not_modified(request: Request, etag: str) -> Response | None:
    """The answer to a client that has this version already, or None."""
    known = request.headers.get("if-none-match", "")
    if etag in [tag.strip().removeprefix("W/") for tag in known.split(",")]:
        return Response(status_code=304, headers={"ETag": etag})
    return None
