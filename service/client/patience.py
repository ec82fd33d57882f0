"""When a call is sent again, and after how long."""

import random
import time

import httpx

from service.client.call import Call

BUSY = (httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE)
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.5, 8
JITTER = 0.25  # clients that were refused together don't come back together


class Patience:
    """The patience for one call: it ends `seconds` after it began, and there is none for what may not be repeated.

    A service that never answered isn't waited for (`has_answered`): most likely there is none at that address.
    """

    def __init__(self, call: Call[object], seconds: float, *, has_answered: bool) -> None:
        self._is_repeatable = call.is_repeatable
        self._has_answered = has_answered
        self._deadline = time.monotonic() + seconds
        self._next_wait_seconds = FIRST_WAIT_SECONDS

    def after_answer(self, response: httpx.Response) -> float | None:
        """How many seconds until the call is sent again; None: this answer is the last."""
        if response.status_code not in BUSY:
            return None
        return self._wait(_retry_after_seconds(response))

    def after_error(self, error: httpx.TransportError) -> float:
        """How many seconds until the call is sent again. Raises the error when it isn't."""
        wait = self._wait(None) if self._has_answered else None
        if wait is None:
            raise error
        return wait

    def _wait(self, told_seconds: float | None) -> float | None:
        seconds = self._next_wait_seconds if told_seconds is None else told_seconds
        seconds *= random.uniform(1, 1 + JITTER)  # noqa: S311  # no secret
        self._next_wait_seconds = min(2 * self._next_wait_seconds, LONGEST_WAIT_SECONDS)
        is_in_time = time.monotonic() + seconds <= self._deadline
        return seconds if self._is_repeatable and is_in_time else None


def _retry_after_seconds(response: httpx.Response) -> float | None:
    """What Retry-After says; None for its other form, a date, which this service doesn't send."""
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isdecimal() else None
