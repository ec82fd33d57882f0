"""Requests that would wait too long are refused before anything else is done for them.

Under a flood most requests are refused: what that costs, the others lose. Here it is a look at a number, before anyone
asks whose key it is, the body is parsed or a route found.
"""

from starlette.types import ASGIApp, Receive, Scope, Send

from service import problems
from service.admission import Admission
from service.core.errors import Busy

PATHS = ("/v1/embeddings", "/v1/classify")  # whose every request embeds


class Shedding:
    """Answers 429 where `Admission.check_wait` says so."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] in PATHS:
            admission: Admission = scope["app"].state.services.embedding.admission
            try:
                admission.check_wait()
            except Busy as error:
                await problems.respond(error)(scope, receive, send)
                return
        await self.app(scope, receive, send)
