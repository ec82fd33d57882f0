"""An operation as data: what to send, and how to read the answer. Whoever sends it may wait or await."""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import httpx

from service.client.results import JSON

T = TypeVar("T")

# By RFC 9110, 9.2.2; PATCH of this API sets what it names, so it is one of them too.
IDEMPOTENT_METHODS = {"GET", "HEAD", "PUT", "DELETE", "PATCH"}


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request; `arguments` are those of httpx.Client.request, `parse` reads the answer of a success."""

    method: str
    path: str
    parse: Callable[[httpx.Response], T]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    changes_nothing_twice: bool = False  # a POST of which a second one leaves things as the first did
    file: Path | None = None  # the answer's body goes there, and not into memory

    @property
    def is_repeatable(self) -> bool:
        """Whether it may be sent again when nobody knows what became of it."""
        has_key = "Idempotency-Key" in self.arguments.get("headers", {})
        return self.changes_nothing_twice or has_key or self.method in IDEMPOTENT_METHODS


class Pause(NamedTuple):
    """Let so much time pass before the next step."""

    seconds: float


# An operation of several calls: yields each, gets its answer, returns the result.
Steps = Generator[Call[Any] | Pause, Any, T]


class Listing(NamedTuple):
    """A list that comes page by page."""

    path: str
    query: JSON


def read_json(response: httpx.Response) -> Any:
    """The body; builders say which type it has."""
    return response.json()


def read_items(response: httpx.Response) -> Any:
    """The items of a body that has nothing else to say."""
    return response.json()["items"]


def read_nothing(_response: httpx.Response) -> None:
    """For answers without a body, or whose body went to a file."""


def given(**values: Any) -> JSON:
    """The values that are not None: what isn't said is left to the service."""
    return {name: value for name, value in values.items() if value is not None}


def get(path: str, **query: Any) -> Call[JSON]:
    """The JSON at a path."""
    return Call("GET", path, read_json, {"params": given(**query)})


def request(method: str, path: str, **arguments: Any) -> Call[httpx.Response]:
    """Any operation, with the arguments of httpx.Client.request; its response."""
    return Call(method, path, lambda response: response, arguments)
