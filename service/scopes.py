"""The scope that an operation needs of a key: said once, on its handler, and known before anything of it runs.

    @router.get("/{job_id}")
    @requires(READ)
    def get_job(...)

read: look at everything, embed, classify and search. write: data sets, images and collections. train: jobs, models and
aliases. admin: keys and the audit log, and all of the others. A key has the scopes that it was given and no others:
`write` doesn't include `read`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from re import Pattern
from typing import Any, TypeVar

from fastapi import APIRouter
from fastapi.params import Body
from fastapi.routing import APIRoute
from starlette.types import Scope

Handler = TypeVar("Handler", bound=Callable[..., Any])

PREFIX = "/v1/"  # all that is below it needs a key, be it there or not
PLACE = "required_scope"


def requires(scope: str) -> Callable[[Handler], Handler]:
    """Declare the scope of an operation."""

    def declare(handler: Handler) -> Handler:
        setattr(handler, PLACE, scope)
        return handler

    return declare


@dataclass(frozen=True)
class Operation:
    """An operation of the API and the scope that it needs."""

    name: str
    scope: str
    path: str  # as the document has it
    pattern: Pattern[str]
    methods: frozenset[str]
    media_types: frozenset[str]  # of its body; none: it has none


class Operations:
    """The operations below PREFIX, in the order in which the router tries them.

    Raises ValueError for one that declares no scope.
    """

    def __init__(self, routers: Iterable[APIRouter]) -> None:
        self._routes = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]
        self.all = [_operation(route) for route in self._routes if route.path.startswith(PREFIX)]

    def find(self, scope: Scope) -> Operation | None:
        """The operation that a request asks for; None where there is none, which the router says in its way."""
        method, path = scope["method"], scope["path"]
        for operation in self.all:
            if method in operation.methods and operation.pattern.match(path):
                return operation
        return None

    def methods_at(self, path: str) -> list[str]:
        """The methods that a path takes, also one that is not below PREFIX."""
        at = [route for route in self._routes if route.path_regex.match(path)]
        return sorted({method for route in at for method in route.methods or ()})


def _operation(route: APIRoute) -> Operation:
    scope = getattr(route.endpoint, PLACE, None)
    if scope is None:
        raise ValueError(f"{route.name}: declare its scope with @requires (service/scopes.py)")
    methods = frozenset(route.methods or ())
    return Operation(route.name, scope, route.path_format, route.path_regex, methods, _media_types(route))


def _media_types(route: APIRoute) -> frozenset[str]:
    """What the body of a route may be: as FastAPI reads it, or as the route says that it reads it itself."""
    if route.body_field is not None:
        assert isinstance(route.body_field.field_info, Body)
        return frozenset({route.body_field.field_info.media_type})
    return frozenset((route.openapi_extra or {}).get("requestBody", {}).get("content", ()))
