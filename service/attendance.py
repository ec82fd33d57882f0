"""Work for a client that still waits for it: it ends when the client has gone, or when its time is over."""

import asyncio
import time
from collections.abc import Coroutine
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Header, Request
from fastapi.exceptions import RequestValidationError
from pydantic import Field, TypeAdapter, ValidationError

from service.core.errors import ClientGone, DeadlineExceeded
from service.core.settings import Settings
from service.deps import SettingsDep

Result = TypeVar("Result")

HEADER = "x-request-timeout"
MAX_TIMEOUT_SECONDS = 600
TimeoutSeconds = Annotated[float, Field(gt=0, le=MAX_TIMEOUT_SECONDS)]
TIMEOUT_SECONDS = TypeAdapter(TimeoutSeconds)


class Attendance:
    """A client that waits for an answer, until `deadline_at` on the monotonic clock."""

    def __init__(self, request: Request, timeout_seconds: float) -> None:
        self._request = request
        self._timeout_seconds = timeout_seconds
        self._deadline_at = time.monotonic() + timeout_seconds

    async def result(self, work: Coroutine[Any, Any, Result]) -> Result:
        """What `work` returns; call it once the body has been read, and once.

        Raises DeadlineExceeded or ClientGone; `work` is cancelled then, and what it held is free.
        """
        waiting = asyncio.current_task()
        assert waiting is not None
        departure = asyncio.create_task(self._departure())
        departure.add_done_callback(lambda done: done.cancelled() or waiting.cancel())
        try:
            async with asyncio.timeout_at(self._deadline_at) as deadline:  # the loop's clock is the monotonic one
                return await work
        except TimeoutError as error:
            if not deadline.expired():
                raise  # it is the work's own
            detail = f"no answer within {self._timeout_seconds:g} seconds"
            raise DeadlineExceeded(detail, retry_after_seconds=1) from error
        except asyncio.CancelledError as error:
            if not departure.done():
                raise  # the server stops
            waiting.uncancel()
            raise ClientGone("the client has closed its connection") from error
        finally:
            departure.cancel()

    async def _departure(self) -> None:
        """Return when the client has closed its connection."""
        while (await self._request.receive())["type"] != "http.disconnect":
            pass


def attendance_of(request: Request, settings: Settings) -> Attendance:
    """What AttendanceDep gives, without FastAPI. Raises RequestValidationError for a header that is no time."""
    given = request.headers.get(HEADER)
    if given is None:
        return Attendance(request, settings.request_timeout_seconds)
    try:
        return Attendance(request, TIMEOUT_SECONDS.validate_python(given))
    except ValidationError as error:
        located = [{**entry, "loc": ("header", HEADER)} for entry in error.errors(include_url=False)]
        raise RequestValidationError(located) from error


async def _attendance(
    request: Request,
    settings: SettingsDep,
    x_request_timeout: Annotated[
        TimeoutSeconds | None,
        Header(
            description="Seconds within which an answer is of use; what can't be done by then is dropped, with 503.",
        ),
    ] = None,
) -> Attendance:
    return Attendance(request, x_request_timeout or settings.request_timeout_seconds)


AttendanceDep = Annotated[Attendance, Depends(_attendance)]
