"""The client that is awaited."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import closing
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from service.client.call import Call, Pause, Steps, get
from service.client.connection import RETRY_SECONDS, TIMEOUT_SECONDS, http_options
from service.client.errors import raise_for_problem
from service.client.operations import Operations
from service.client.patience import Patience
from service.client.results import JSON
from service.saving import whole_file

T = TypeVar("T")


class AsyncClient(Operations):
    """As `Client`, with methods to await, and lists for `async for`. Files are read and written without awaiting."""

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        self._http = httpx.AsyncClient(**http_options(base_url, api_key, timeout_seconds))
        self._retry_seconds = retry_seconds
        self._has_answered = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def pages(self, path: str, **query: Any) -> AsyncIterator[JSON]:
        """Every item of a list, page by page."""
        cursor = None
        while True:
            page = await self.run(get(path, cursor=cursor, **query))
            for item in page["items"]:
                yield item
            cursor = page["next"]
            if cursor is None:
                return

    async def run(self, operation: Call[T] | Steps[T]) -> T:
        """Send a call, or each of several, and read the answer."""
        if isinstance(operation, Call):
            response = await self._send(operation)
            raise_for_problem(response)
            return operation.parse(response)
        with closing(operation):
            answer = None
            while True:
                try:
                    step = operation.send(answer)
                except StopIteration as end:
                    result: T = end.value
                    return result
                if isinstance(step, Pause):
                    answer = None
                    await asyncio.sleep(step.seconds)
                else:
                    answer = await self.run(step)

    async def _send(self, call: Call[Any]) -> httpx.Response:
        patience = Patience(call, self._retry_seconds, has_answered=self._has_answered)
        while True:
            try:
                response = await self._answer(call)
            except httpx.TransportError as error:
                await asyncio.sleep(patience.after_error(error))
                continue
            self._has_answered = True
            wait = patience.after_answer(response)
            if wait is None:
                return response
            await asyncio.sleep(wait)

    async def _answer(self, call: Call[Any]) -> httpx.Response:
        async with self._http.stream(call.method, call.path, **call.arguments) as response:
            if call.file is None or not response.is_success:
                await response.aread()
                return response
            with whole_file(call.file) as file:
                async for part in response.aiter_bytes():
                    file.write(part)
        return response
