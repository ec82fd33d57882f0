"""Blobs as responses."""

from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from fastapi import Request
from starlette.background import BackgroundTask
from starlette.responses import FileResponse, Response

from service.core.storage import Storage


def send_blob(storage: Storage, key: str, *, media_type: str) -> FileResponse:
    """The blob, in pieces; where the storage is elsewhere, from a copy that is deleted afterwards. Raises NotFound."""
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory())
        path = storage.fetch(key, Path(folder) / "blob")
        return FileResponse(path, media_type=media_type, background=BackgroundTask(stack.pop_all().close))


def not_modified(request: Request, etag: str) -> Response | None:
    """The answer to a client that has this version already, or None."""
    known = request.headers.get("if-none-match", "")
    if etag in [tag.strip().removeprefix("W/") for tag in known.split(",")]:
        return Response(status_code=304, headers={"ETag": etag})
    return None
