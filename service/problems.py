"""Every error as application/problem+json (RFC 9457), rendered here and nowhere else. The input is never echoed."""

import json
import re
import traceback
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import psycopg.errors
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.core.db import AWAY
from service.core.errors import BadRequest, Invalid, ServiceError, StorageFull, Unavailable
from service.core.storage import is_full
from service.scopes import Operations

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 2
MAX_ERRORS = 50
MAX_MESSAGE_LENGTH = 500
ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))  # as every other answer
CODES = {
    HTTPStatus.NOT_FOUND: "not_found",
    HTTPStatus.METHOD_NOT_ALLOWED: "method_not_allowed",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "too_large",
    HTTPStatus.TOO_MANY_REQUESTS: "busy",
}

log = structlog.get_logger(__name__)


class FieldError(BaseModel):
    """What is wrong with one field of a request."""

    field: str = Field(description="Path of the field, such as `recipe.loss.temperature`.")
    message: str


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: str = Field(description="`urn:simclr:problem:` and the code.")
    title: str
    status: int
    code: str = Field(description="Stable name of the error, for programs.")
    detail: str = Field(description="What was wrong, and what would be accepted.")
    errors: list[FieldError] = Field(default=[], description="The fields at fault, if it was fields.")


def describe(error: ServiceError) -> Problem:
    """An error as its problem."""
    return Problem(
        type=f"urn:simclr:problem:{error.code}",
        title=error.title,
        status=error.status,
        code=error.code,
        detail=error.detail,
        errors=[FieldError.model_validate(entry) for entry in error.errors[:MAX_ERRORS]],
    )


class ProblemResponse(JSONResponse):
    """A problem. A name that a client made up may have half of a character, which no encoding has: it is a `?` then."""

    media_type = MEDIA_TYPE

    def render(self, content: Any) -> bytes:
        return ENCODER.encode(content).encode(errors="replace")


def respond(error: ServiceError, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The response that tells of an error."""
    sent = dict(headers or {})
    if error.retry_after_seconds is not None:
        sent["Retry-After"] = str(error.retry_after_seconds)
    return ProblemResponse(describe(error).model_dump(), error.status, sent)


class Boundary:
    """The last resort: what nobody foresaw is logged, and answered without a word of it.

    FastAPI's own handler of `Exception` raises it again, and the server then closes the connection.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_started = False

        async def send_noting(message: Message) -> None:
            nonlocal has_started
            has_started = True
            await send(message)

        try:
            await self.app(scope, receive, send_noting)
        except Exception:
            if has_started or scope["type"] != "http":
                raise  # nothing can be answered any more: the server has to break the connection
            trace = traceback.format_exc()
            log.error("request_failed", method=scope["method"], path=scope["path"], exception=trace)  # noqa: TRY400  # without the values of all variables
            failure = ServiceError("the service failed to answer this request; its log says why")
            await respond(failure)(scope, receive, send)


def add_handlers(app: FastAPI, operations: Operations) -> None:
    """Have the application answer every error with a problem."""

    async def http_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        return _http_error(request.scope["path"], error, operations)

    app.add_exception_handler(ServiceError, _service_error)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(OSError, _os_error)
    for away in AWAY:
        app.add_exception_handler(away, _database_away)


async def _service_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ServiceError)
    return respond(error)


async def _database_away(_request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, DBAPIError) and isinstance(error.orig, psycopg.errors.DiskFull):
        return respond(StorageFull("the database has no space left; delete data or add space, then try again"))
    log.warning("database_away", error=str(error))
    detail = f"the database does not answer; try again in {RETRY_AFTER_SECONDS} seconds"
    return respond(Unavailable(detail, retry_after_seconds=RETRY_AFTER_SECONDS))


async def _os_error(_request: Request, error: Exception) -> JSONResponse:
    if not is_full(error):
        raise error
    return _no_room_for_uploads()


def _no_room_for_uploads() -> JSONResponse:
    """Large files of a form wait on the disk until the form is complete."""
    return respond(StorageFull("the disk for temporary files has no space left; free some, then try again"))


def _http_error(path: str, error: HTTPException, operations: Operations) -> JSONResponse:
    """What Starlette and FastAPI raise themselves: unknown paths, wrong methods, bodies that can't be parsed."""
    if is_full(error.__cause__):
        return _no_room_for_uploads()
    status = HTTPStatus(error.status_code)
    headers = dict(error.headers or {})
    if status == HTTPStatus.NOT_FOUND:
        detail = f"nothing is at {path}; /docs lists what there is"
    elif status == HTTPStatus.METHOD_NOT_ALLOWED:
        # Starlette's Allow has the methods of the path's first route alone.
        headers["Allow"] = ", ".join(operations.methods_at(path)) or headers["Allow"]
        detail = f"{path} takes {headers['Allow']}"
    else:
        cause = f": {error.__cause__}" if isinstance(error.__cause__, ValueError | RecursionError) else ""
        detail = error.detail + cause
    problem = ServiceError(detail, code=CODES.get(status, "bad_request"))
    problem.status, problem.title = status, status.phrase
    return respond(problem, headers)


async def _invalid_request(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    if found[0]["type"] == "json_invalid":
        where = f"{found[0]['ctx']['error']}, at character {found[0]['loc'][-1]}"
        return respond(BadRequest(f"the body is not JSON: {where}"))
    errors = [_field_error(entry, error.body) for entry in found[:MAX_ERRORS]]
    return respond(Invalid(_summary(len(errors)), errors=errors))


def _summary(num_fields: int) -> str:
    return "a field is not valid" if num_fields == 1 else f"{num_fields} fields are not valid"


def _field_error(entry: Mapping[str, Any], body: Any) -> dict[str, str]:
    """One of pydantic's errors. Our own validators start a message with the field's name: `low: at most high`."""
    part, *location = entry["loc"]
    path = [str(step) for step in location]
    if part == "body":
        path = _path_in(body, location, is_missing=entry["type"] == "missing")
    message = entry["msg"]
    if entry["type"].startswith("union_tag"):
        path.append(entry["ctx"]["discriminator"].strip("'"))
    elif entry["type"] == "value_error":
        message = message.removeprefix("Value error, ")
        if named := re.match(r"([a-z0-9_.]+): (.+)", message, re.DOTALL):
            path.append(named[1])
            message = named[2]
    return {"field": ".".join(path), "message": message[:MAX_MESSAGE_LENGTH]}


def _path_in(body: Any, location: list[str | int], *, is_missing: bool) -> list[str]:
    """The steps of a location that are keys or positions of the body, without the names of union members between.

    The last step of a field that is missing is none of these, but the field's own; a body that is missing has no step.
    """
    path = []
    is_missing = is_missing and bool(location)
    for step in location[:-1] if is_missing else location:
        is_key = isinstance(body, Mapping) and step in body
        if is_key or (isinstance(body, list) and isinstance(step, int) and step < len(body)):
            body = body[step]
            path.append(str(step))
    return [*path, str(location[-1])] if is_missing else path
