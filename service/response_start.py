"""What several layers of the application do to every answer: something at its start, before it is sent."""

from collections.abc import Callable

from starlette.types import Message, Send


def at_start(send: Send, act: Callable[[Message], None]) -> Send:
    """A `send` that has `act` see, or change, the start of the response."""

    async def send_acting(message: Message) -> None:
        if message["type"] == "http.response.start":
            act(message)
        await send(message)

    return send_acting
