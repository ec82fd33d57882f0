"""Counts requests by their route and status, and times their answers' first bytes."""

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.instruments import REQUEST_SECONDS, REQUESTS
from service.response_start import at_start
from service.shedding import PATHS

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class RequestMetrics:
    """The labels are few whatever clients send: a route is its template, and what has none is one."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started_at = time.monotonic()

        def note(message: Message) -> None:
            REQUESTS.add(1, method_of(scope), route_of(scope), str(message["status"]))
            REQUEST_SECONDS.observe(time.monotonic() - started_at, method_of(scope), route_of(scope))

        await self.app(scope, receive, at_start(send, note))


def method_of(scope: Scope) -> str:
    """One of HTTP's, or `other`."""
    method: str = scope["method"]
    return method if method in METHODS else "other"


def route_of(scope: Scope) -> str:
    """The template of its path; what was refused before a route was found has a path without parameters."""
    if "route" in scope:
        path: str = scope["route"].path
        return path
    return scope["path"] if scope["path"] in PATHS else "none"
