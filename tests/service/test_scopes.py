"""What is known of an operation before anything of it runs."""

from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Body
from fastapi.routing import APIRoute

from service.scopes import Operations, requires


def things() -> APIRouter:
    """Two operations on a thing, one on all of them whose body the route reads itself, and one that needs no key."""
    router = APIRouter()

    @router.get("/v1/things/{thing_id}", name="get_thing")
    @requires("read")
    def get_thing(thing_id: str) -> None: ...

    @router.put("/v1/things/{thing_id}", name="put_thing")
    @requires("write")
    def put_thing(thing_id: str, body: Annotated[dict[str, Any], Body(media_type="application/x-thing")]) -> None: ...

    types = {"requestBody": {"content": {"application/json": {}, "multipart/form-data": {}}}}

    @router.post("/v1/things", name="create_thing", openapi_extra=types)
    @requires("train")
    async def create_thing() -> None: ...

    @router.get("/healthz", name="get_health")
    def get_health() -> None: ...

    return router


def found(method: str, path: str) -> tuple[str, str, str, set[str]] | None:
    """Name, scope, path and media types of what a request asks for."""
    operation = Operations([things()]).find({"type": "http", "method": method, "path": path})
    return operation and (operation.name, operation.scope, operation.path, set(operation.media_types))


def test_an_operation_is_found_by_method_and_path() -> None:
    """With the scope of its own, and the types of its body, whoever reads it."""
    path = "/v1/things/{thing_id}"
    assert found("GET", "/v1/things/7") == ("get_thing", "read", path, set())
    assert found("PUT", "/v1/things/7") == ("put_thing", "write", path, {"application/x-thing"})
    both = {"application/json", "multipart/form-data"}
    assert found("POST", "/v1/things") == ("create_thing", "train", "/v1/things", both)


@pytest.mark.parametrize(("method", "path"), [("DELETE", "/v1/things/7"), ("GET", "/v1/other"), ("GET", "/healthz")])
def test_what_is_none_is_not_found(method: str, path: str) -> None:
    """Another method, another path, and what needs no key."""
    assert found(method, path) is None


def test_the_methods_of_a_path() -> None:
    """Of all routes that it has, in order of the alphabet."""
    operations = Operations([things()])
    paths = ("/v1/things/7", "/v1/things", "/healthz", "/v1/other")
    assert [operations.methods_at(path) for path in paths] == [["GET", "PUT"], ["POST"], ["GET"], []]


def test_an_operation_without_a_scope_is_no_operation() -> None:
    """The service doesn't start: nobody can forget it."""
    router = APIRouter()
    router.routes.append(APIRoute("/v1/things", lambda: None, name="list_things"))
    with pytest.raises(ValueError, match="list_things: declare its scope with @requires"):
        Operations([router])
