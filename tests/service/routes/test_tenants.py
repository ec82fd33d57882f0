"""What one tenant has isn't there for another: on every operation of the OpenAPI document, be it named or looked for.

An operation that is new is in here by itself; one that takes a body or an id of a new kind has to be told a valid one.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import httpx
import pyarrow as pa
import pytest
from pyarrow import parquet

from service.app import create_app
from service.arrow_stream import PARQUET
from service.core.db import Database
from service.core.ids import new_id
from service.core.settings import Settings
from service.core.storage import LocalStorage
from tests.service.routes.gallery import id_of, picture, upload
from tests.service.routes.two_tenants import COLLECTION, Tenant, blobs, furnish, rows_of, told

NAMES_NOTHING = {  # what takes a body that can't name anything: only what it answers counts
    "create_dataset": {"files": {"file": ("a.zip", b"no zip")}, "data": {"name": "mine"}},
    "create_collection": {"json": {"name": "mine"}},
    "create_key": {"json": {"name": "mine", "scopes": ["read"]}},
    "create_images": {"files": {"files": ("a.png", picture(0))}, "data": {"collection": "mine"}},
}
LONE: dict[str, Any] = {"contents": [picture(1)], "collection": COLLECTION, "label": "alone"}  # the first tenant's only
REFUSED = {"create_job": 422, "set_alias": 422}  # what a body names is refused as a field; all else is 404


@dataclass(frozen=True)
class Operation:
    """Of the document."""

    name: str
    method: str
    path: str
    parameters: list[dict[str, Any]]
    has_body: bool

    @property
    def needed(self) -> list[str]:
        """The parameters in its path."""
        return re.findall(r"{(\w+)}", self.path)

    def named(self, ids: dict[str, str]) -> str:
        """Its path with these ids."""
        return self.path.format(**{name: ids[name] for name in self.needed})

    def queries(self, ids: dict[str, str]) -> dict[str, str]:
        """Its query's parameters that name something."""
        return {p["name"]: ids[p["name"]] for p in self.parameters if p["in"] == "query" and p["name"] in ids}


@cache
def operations() -> list[Operation]:
    """Those that need a key; deletions last, of parts before wholes."""
    document = create_app(Settings(database_url="postgresql://nobody@localhost/none")).openapi()
    found = [
        Operation(o["operationId"], method.upper(), path, o.get("parameters", []), "requestBody" in o)
        for path, methods in document["paths"].items()
        for method, o in methods.items()
        if "x-scope" in o
    ]
    return sorted(found, key=lambda o: len(o.path) if o.method != "DELETE" else 10_000 - len(o.path))


def body(operation: Operation, ids: dict[str, str]) -> dict[str, Any]:
    """A valid body that names things by these ids, as httpx takes it."""
    if not operation.has_body:
        return {}
    image = {"files": ("a.png", picture(5))}
    table = pa.BufferOutputStream()
    parquet.write_table(pa.table({"id": [ids["image_id"]]}), table)
    return NAMES_NOTHING | {
        "create_job": {"json": {"kind": "index", "model_id": ids["model_id"]}},
        "set_alias": {"json": {"model_id": ids["model_id"]}},
        "create_embeddings": {"files": image, "data": {"model": ids["model_id"]}},
        "classify_images": {"files": image, "data": {"probe": ids["probe"]}},
        "search": {"json": {"image_id": ids["image_id"], "collection": ids["collection"], "model": ids["model"]}},
        "put_collection_image": {"json": {"label": "mine"}},
        "change_collection_image": {"json": {"label": "mine"}},
        "import_collection": {"content": table.getvalue().to_pybytes(), "headers": {"Content-Type": PARQUET}},
    }  # fmt: skip


def ask(tenant: Tenant, operation: Operation, path: dict[str, str], rest: dict[str, str]) -> httpx.Response:
    """The operation as a tenant, its path and its body with these ids."""
    query = {name: value for name, value in operation.queries(rest).items() if name == "collection"}
    if operation.name == "remove_collection_images":
        query["filter"] = json.dumps({"op": "exists", "field": "label"})
    arguments = body(operation, rest)
    if operation.has_body:
        arguments = arguments[operation.name]
    return tenant.api.request(operation.method, operation.named(path), params=query, **arguments)


@pytest.fixture
def tenants(keyed_url: str, database: Database, storage: LocalStorage) -> Iterator[tuple[Tenant, Tenant]]:
    """One that has all there is, marked; and another one that has the same, of its own."""
    with httpx.Client(base_url=keyed_url, timeout=30) as first, httpx.Client(base_url=keyed_url, timeout=30) as second:
        theirs = furnish("theirs", first, database, storage)
        theirs.ids["image_id"] = upload(first, **LONE)[0]["id"]
        yield theirs, furnish("ours", second, database, storage)


def test_nothing_of_another_tenant_can_be_named(
    tenants: tuple[Tenant, Tenant], database: Database, storage: LocalStorage
) -> None:
    """With another's ids in its path or body every operation is 404, and changes nothing of the other's."""
    theirs, ours = tenants
    rows, files = rows_of(theirs, database), blobs(storage)
    assert all(rows[name] for name in ("dataset", "job", "model", "image", "alias", "checkpoint", "job_event"))
    for operation in operations():
        if not operation.needed and (not operation.has_body or operation.name in NAMES_NOTHING):
            continue
        response = ask(ours, operation, theirs.ids, theirs.ids)
        assert response.status_code == REFUSED.get(operation.name, 404), (operation.name, response.text)
        assert theirs.mark not in told(response), operation.name
    assert rows_of(theirs, database) == rows
    assert files <= blobs(storage)


def test_nothing_of_another_tenant_is_found(
    tenants: tuple[Tenant, Tenant], database: Database, storage: LocalStorage
) -> None:
    """Lists, and operations on what one has, say nothing of the other's, also where a query or body names it."""
    theirs, ours = tenants
    rows = rows_of(theirs, database)
    for operation in operations():
        if operation.method == "DELETE":
            continue
        response = ask(ours, operation, ours.ids, ours.ids)
        assert [value for value in theirs.hidden if value in told(response)] == [], operation.name
        for name, value in operation.queries(theirs.ids).items():
            path = operation.named(ours.ids)
            answer = told(ours.api.request(operation.method, path, params={name: value})).replace(value, "")
            assert [hidden for hidden in theirs.hidden if hidden in answer] == [], (operation.name, name)
    assert rows_of(theirs, database) == rows


def test_the_requests_are_right_but_for_whose_the_things_are(tenants: tuple[Tenant, Tenant]) -> None:
    """The same requests with one's own ids are no 404 and no 422: what was refused above was refused for its owner."""
    theirs, _ = tenants
    for operation in operations():
        if operation.method == "DELETE":
            upload(theirs.api, **LONE)  # one before may have deleted it
        response = ask(theirs, operation, theirs.ids, theirs.ids)
        if operation.name == "classify_images":  # whether a job has a classifier is asked next
            assert response.json()["code"] == "not_a_classifier"
        else:
            assert response.status_code not in {404, 422}, (operation.name, response.text)
    assert theirs.api.get("/v1/datasets").status_code == 200


def test_the_same_names_are_everyones(tenants: tuple[Tenant, Tenant], database: Database) -> None:
    """Collections, aliases, images and idempotency keys of the same name or content are two things."""
    theirs, ours = tenants
    assert theirs.ids["collection"] != ours.ids["collection"]
    shared = id_of(picture(0))
    assert {tenant.api.get(f"/v1/images/{shared}").status_code for tenant in tenants} == {200}
    assert ours.api.delete(f"/v1/images/{shared}").status_code == 204
    assert theirs.api.get(f"/v1/images/{shared}/content").status_code == 200
    (item,) = upload(ours.api, [picture(1)], collection="new")
    assert item["status"] == "created"  # as if nobody had it
    upload(ours.api, [picture(0)], collection="new")
    assert ours.api.delete("/v1/collections/new").status_code == 204
    assert [tenant.api.get(f"/v1/images/{shared}").status_code for tenant in (ours, theirs)] == [404, 200]
    models = [tenant.api.get("/v1/aliases").json()["items"][0]["model_id"] for tenant in tenants]
    assert len(set(models)) == 2
    key = {"Idempotency-Key": "same"}
    made = [
        tenant.api.post("/v1/jobs", json={"kind": "index", "model_id": tenant.ids["model_id"]}, headers=key).json()[
            "id"
        ]
        for tenant in tenants
    ]
    assert len(set(made)) == 2


def test_vectors_and_answers_are_of_ones_own_images(tenants: tuple[Tenant, Tenant]) -> None:
    """A search over everything that a tenant has finds its images, by the vectors of its model."""
    theirs, ours = tenants
    for tenant, number in ((theirs, 2), (ours, 1)):
        query = {"vector": [1.0] * 192, "collection": COLLECTION, "k": 10}
        found = tenant.api.post("/v1/search", json=query).json()
        assert len(found["items"]) == number


def test_a_job_of_another_tenant_takes_slots_and_is_not_told(
    tenants: tuple[Tenant, Tenant], database: Database
) -> None:
    """The queue and the counts are of one's own jobs."""
    theirs, ours = tenants
    job_id = theirs.api.post("/v1/jobs", json={"kind": "index", "model_id": theirs.ids["model_id"]}).json()["id"]
    assert job_id in theirs.api.get("/v1/system").text
    assert job_id not in ours.api.get("/v1/system").text
    assert [tenant.api.get("/v1/system").json()["jobs"]["queued"] for tenant in tenants] == [1, 0]


def test_an_id_that_never_was_is_told_as_one_of_another_tenant(tenants: tuple[Tenant, Tenant]) -> None:
    """The answers are the same but for the id: no one can find out what others have."""
    theirs, ours = tenants
    for name, prefix, path in (
        ("dataset_id", "ds", "datasets"),
        ("job_id", "job", "jobs"),
        ("model_id", "mdl", "models"),
    ):
        there, nowhere = theirs.ids[name], new_id(prefix)
        answers = [ours.api.get(f"/v1/{path}/{id_}").text.replace(id_, "ID") for id_ in (there, nowhere)]
        assert answers[0] == answers[1]
