"""Requests that would wait too long are refused at the door: before a task is made for them, or a layer asked.

Under a flood most requests are refused: what that costs, the others lose. Here it is a look at a number and one write.
All else of the application costs little by itself, but the models have it thrown out of the processor's caches between
one request and the next: a layer left 39 good answers a second, the door 44 (docs/decisions/0014).
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from service import problems
from service.admission import Admission
from service.core.errors import Busy
from service.core.ids import new_id
from service.headers import HEADERS
from service.instruments import REQUEST_SECONDS, REQUESTS
from service.request_heads import BoundedHeads
from service.request_ids import HEADER as ID_HEADER

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application, HTTPScope

PATHS = ("/v1/embeddings", "/v1/classify")  # whose every request embeds
STATE = "door"  # its name in the state that the application gives the server


class Door:
    """Knows who may come in. For one event loop."""

    def __init__(self, admission: Admission, cors_origins: Sequence[str]) -> None:
        self._admission = admission
        self._origins = {origin.encode() for origin in cors_origins}

    def refusal(self, scope: "HTTPScope") -> bytes | None:
        """The answer to a request that would wait too long, from its headers on; None for one that may come in."""
        if scope["path"] not in PATHS or scope["method"] != "POST":
            return None
        try:
            self._admission.check_wait()
        except Busy as error:
            REQUESTS.add(1, "POST", scope["path"], str(error.status))
            REQUEST_SECONDS.observe(0, "POST", scope["path"])
            return self._written(error, scope)
        return None

    def _written(self, error: Busy, scope: "HTTPScope") -> bytes:
        headers = f"{ID_HEADER.lower()}: {new_id('req')}\r\n".encode()
        if self._origins:  # what CORSMiddleware would say to a page of another site, so that it can read this
            headers += b"vary: Origin\r\n"
            for name, value in scope["headers"]:
                if name == b"origin" and value in self._origins:
                    headers += b"access-control-allow-origin: %b\r\n" % value
        return headers + _rendered(error.detail, error.retry_after_seconds)


@lru_cache(maxsize=256)  # the images in work and tenths of a second: there are not so many in a flood
def _rendered(detail: str, retry_after_seconds: int | None) -> bytes:
    """What is the same in many refusals: headers, an empty line, and the problem."""
    response = problems.respond(Busy(detail, retry_after_seconds=retry_after_seconds))
    headers = b"".join(b"%b: %b\r\n" % header for header in (*response.raw_headers, *HEADERS))
    return headers + b"\r\n" + bytes(response.body)


class Shedding(BoundedHeads):
    """uvicorn's protocol with a bound on heads, which asks the application's `Door`, if it has one, first."""

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: "ASGI3Application") -> None:
        door: Door | None = self.app_state.get(STATE)
        refusal = door.refusal(cycle.scope) if door and not self.pipeline else None
        if refusal is None:
            super()._start_asgi_task(cycle, app)
            return
        # A client that waits to be asked for its body won't send it, and what comes next would be read as one.
        close = not cycle.keep_alive or cycle.waiting_for_100_continue
        start = b"".join(b"%b: %b\r\n" % header for header in cycle.default_headers)
        self.transport.write(STATUS_LINE[429] + start + (b"connection: close\r\n" if close else b"") + refusal)
        cycle.response_started = cycle.response_complete = True
        if close:
            self.transport.close()
        cycle.on_response()
