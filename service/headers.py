"""Security headers on every response."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.response_start import at_start

STRICT = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", STRICT.encode()),
)


class SecurityHeaders:
    """Adds what a response doesn't say itself: its type is not to be guessed, and it may load nothing."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        await self.app(scope, receive, at_start(send, _add_headers))


def _add_headers(message: Message) -> None:
    said = {name for name, _ in message["headers"]}
    message["headers"] = [*message["headers"], *(header for header in HEADERS if header[0] not in said)]
