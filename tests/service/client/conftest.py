"""Both clients on a service that is played, with a clock that jumps."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from service.client import AsyncClient, Client

Handler = Callable[[httpx.Request], httpx.Response]
Ask = Callable[..., Any]


class Clock:
    """Time that passes by sleeping only."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    async def sleep_awaited(self, seconds: float) -> None:
        self.sleep(seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("service.client.patience.time", clock)
    monkeypatch.setattr("service.client.blocking.time", clock)
    monkeypatch.setattr("service.client.asynchronous.asyncio", type("", (), {"sleep": clock.sleep_awaited}))
    return clock


@pytest.fixture(params=["Client", "AsyncClient"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Runs operations on a service that answers by `handler`: `ask(handler, lambda client: client.get_job(...))`."""

    def blocking(handler: Handler, *operations: Callable[[Any], Any], **options: Any) -> Any:
        with Client("http://service", **options) as client:
            client._http = httpx.Client(base_url="http://service", transport=httpx.MockTransport(handler))
            return [operation(client) for operation in operations][-1]

    def awaited(handler: Handler, *operations: Callable[[Any], Any], **options: Any) -> Any:
        async def main() -> Any:
            async with AsyncClient("http://service", **options) as client:
                client._http = httpx.AsyncClient(base_url="http://service", transport=httpx.MockTransport(handler))
                return [await operation(client) for operation in operations][-1]

        return asyncio.run(main())

    return blocking if request.param == "Client" else awaited
