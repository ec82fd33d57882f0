"""The page for people. It needs no database: what it shows it asks the API for."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from service.core.errors import NotFound
from service.downloads import not_modified
from service.page import CONTENT_SECURITY_POLICY, FILES

router = APIRouter(include_in_schema=False)

HEADERS = {
    "Cache-Control": "no-cache",  # asked for anew, answered by 304: modules of two releases don't fit together
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
}


@router.get("/")
async def get_page(request: Request) -> Response:
    """The page."""
    return _send(request, "index.html")


@router.get("/docs")
async def get_docs(request: Request) -> Response:
    """All operations, from /openapi.json."""
    return _send(request, "docs.html")


@router.get("/web/{name:path}")
async def get_page_file(request: Request, name: str) -> Response:
    """A module, a style sheet or the icon."""
    return _send(request, name)


def _send(request: Request, name: str) -> Response:
    file = FILES.get(name)
    if file is None:
        raise NotFound(f"the page has no file {name[:100]!r}")
    answer = not_modified(request, file.etag) or Response(file.content, media_type=file.media_type)
    answer.headers.update({**HEADERS, "ETag": file.etag})  # those of a 304 take the place of what a browser kept
    return answer
