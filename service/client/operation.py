"""An operation as a method of both clients: `Client` runs it, `AsyncClient` gives what is to be awaited."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from functools import wraps
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from service.client.call import Call, Listing, Steps
from service.client.results import JSON

if TYPE_CHECKING:
    from service.client.asynchronous import AsyncClient
    from service.client.blocking import Client

P = ParamSpec("P")
T = TypeVar("T")


class Operation(Generic[P, T]):
    """A method that builds a call, or the steps of several, and has its client run them."""

    def __init__(self, build: Callable[P, Call[T]] | Callable[P, Steps[T]]) -> None:
        self.build = build
        self.__doc__ = build.__doc__

    @overload
    def __get__(self, client: Client, owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, client: AsyncClient, owner: type) -> Callable[P, Coroutine[Any, Any, T]]: ...
    @overload
    def __get__(self, client: None, owner: type) -> Callable[P, Call[T] | Steps[T]]: ...
    def __get__(self, client: Client | AsyncClient | None, owner: type) -> Any:
        build = self.build
        if client is None:
            return build

        @wraps(build)
        def run(*args: P.args, **kwargs: P.kwargs) -> Any:
            return client.run(build(*args, **kwargs))

        return run


class Listed(Generic[P]):
    """A method that goes over all items of a list, page by page."""

    def __init__(self, build: Callable[P, Listing]) -> None:
        self.build = build
        self.__doc__ = build.__doc__

    @overload
    def __get__(self, client: Client, owner: type) -> Callable[P, Iterator[JSON]]: ...
    @overload
    def __get__(self, client: AsyncClient, owner: type) -> Callable[P, AsyncIterator[JSON]]: ...
    @overload
    def __get__(self, client: None, owner: type) -> Callable[P, Listing]: ...
    def __get__(self, client: Client | AsyncClient | None, owner: type) -> Any:
        build = self.build
        if client is None:
            return build

        @wraps(build)
        def run(*args: P.args, **kwargs: P.kwargs) -> Any:
            path, query = build(*args, **kwargs)
            return client.pages(path, **query)

        return run
