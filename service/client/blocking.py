"""The client that waits."""

import time
from collections.abc import Iterator
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


class Client(Operations):
    """One service. Objects are the API's JSON, as dicts; times out after `timeout_seconds` without an answer.

    Where the service requires keys, each request carries `api_key`. What the service refuses for now (429, 503), and
    what breaks on the way, is sent again for up to `retry_seconds` in all if it may be repeated. Every operation raises
    ApiError when the service answers with a problem, and httpx.TransportError when there is no answer.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        self._http = httpx.Client(**http_options(base_url, api_key, timeout_seconds))
        self._retry_seconds = retry_seconds
        self._has_answered = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def pages(self, path: str, **query: Any) -> Iterator[JSON]:
        """Every item of a list, page by page."""
        cursor = None
        while True:
            page = self.run(get(path, cursor=cursor, **query))
            yield from page["items"]
            cursor = page["next"]
            if cursor is None:
                return

    def run(self, operation: Call[T] | Steps[T]) -> T:
        """Send a call, or each of several, and read the answer."""
        if isinstance(operation, Call):
            response = self._send(operation)
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
                    time.sleep(step.seconds)
                else:
                    answer = self.run(step)

    def _send(self, call: Call[Any]) -> httpx.Response:
        patience = Patience(call, self._retry_seconds, has_answered=self._has_answered)
        while True:
            try:
                response = self._answer(call)
            except httpx.TransportError as error:
                time.sleep(patience.after_error(error))
                continue
            self._has_answered = True
            wait = patience.after_answer(response)
            if wait is None:
                return response
            time.sleep(wait)

    def _answer(self, call: Call[Any]) -> httpx.Response:
        with self._http.stream(call.method, call.path, **call.arguments) as response:
            if call.file is None or not response.is_success:
                response.read()
                return response
            with whole_file(call.file) as file:
                for part in response.iter_bytes():
                    file.write(part)
        return response
