"""Images, collections and aliases in any order of requests, against a model of them in plain Python (shelf.py).

pytest tests/service/routes/test_stateful.py --long   # an hour and more, other requests each time
"""

import json
from collections import Counter
from typing import Any, ClassVar

import httpx
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from sqlalchemy import text

from service.core.db import Database
from service.core.settings import Settings
from service.core.storage import LocalStorage
from tests.service.core.test_members import SCALARS, filters, typed
from tests.service.routes.gallery import stored_blobs, upload
from tests.service.routes.shelf import IDS, PICTURES, PRODUCTION, Reset, Shelf
from tests.small_models import publish

NAMES, LABELS, ALIASES = ("default", "a", "b"), ("cat", "dog", "é 😀"), (PRODUCTION, "canary")
BOUNDED = settings(
    max_examples=12,
    stateful_step_count=40,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
LONG = settings(BOUNDED, max_examples=5000, derandomize=False)

numbers = st.integers(0, len(PICTURES) - 1)
names = st.sampled_from(NAMES)
labels = st.none() | st.sampled_from(LABELS)
notes = st.dictionaries(st.sampled_from(["a", "b", "label"]), st.sampled_from(SCALARS), max_size=3)
wanted_labels = st.sampled_from(LABELS).map(lambda label: {"op": "equals", "field": "label", "value": label})
conditions = st.none() | wanted_labels | filters


class Requests(RuleBasedStateMachine):
    """Each rule is a request, whose answer the model knows."""

    api: ClassVar[httpx.Client]
    models: ClassVar[list[str]]
    blobs: ClassVar[Settings]
    reset: ClassVar[Reset]

    def __init__(self) -> None:
        super().__init__()
        type(self).reset()
        self.shelf = Shelf({model: set() for model in self.models})

    def ask(self, method: str, path: str, status: int, **request: Any) -> Any:
        """The JSON of an answer that has to have this status."""
        response = self.api.request(method, path, **request)
        assert response.status_code == status, (method, path, request, response.text)
        return response.json() if response.content else None

    def has(self, name: str, number: int) -> bool:
        return IDS[number] in self.shelf.collections.get(name, {})

    # Uploads and what collections say.

    @rule(name=names, files=st.lists(st.tuples(numbers, labels), min_size=1, max_size=4), metadata=notes)
    def upload(self, name: str, files: list[tuple[int, str | None]], metadata: dict[str, Any]) -> None:
        contents, given = [PICTURES[number] for number, _ in files], [label for _, label in files]
        found = upload(self.api, contents, collection=name, labels=given, metadata=metadata)
        named = [(IDS[number], label, f"{i}.png") for i, (number, label) in enumerate(files)]
        expected = self.shelf.upload(name, named, metadata)
        assert [(item["status"], item["id"], item["label"]) for item in found] == expected

    @rule(name=names, number=numbers, label=labels, metadata=notes)
    def put(self, name: str, number: int, label: str | None, metadata: dict[str, Any]) -> None:
        is_stored = IDS[number] in self.shelf.images
        path, body = f"/v1/collections/{name}/images/{IDS[number]}", {"label": label, "metadata": metadata}
        self.ask("PUT", path, 200 if is_stored else 404, json=body)
        if is_stored:
            self.shelf.put(name, IDS[number], label, metadata)

    @rule(name=names, number=numbers, change=st.fixed_dictionaries({}, optional={"label": labels, "metadata": notes}))
    def patch(self, name: str, number: int, change: dict[str, Any]) -> None:
        change = {**change, "unset": ["a"]} if number % 2 else change
        status = 200 if self.has(name, number) else 404
        self.ask("PATCH", f"/v1/collections/{name}/images/{IDS[number]}", status, json=change)
        if status == 200:
            self.shelf.change(name, IDS[number], change)

    # Deletions.

    @rule(number=numbers)
    def delete_image(self, number: int) -> None:
        self.ask("DELETE", f"/v1/images/{IDS[number]}", 204 if IDS[number] in self.shelf.images else 404)
        self.shelf.delete_image(IDS[number])

    @rule(name=names, number=numbers)
    def remove(self, name: str, number: int) -> None:
        self.ask("DELETE", f"/v1/collections/{name}/images/{IDS[number]}", 204 if self.has(name, number) else 404)
        if self.has(name, number):
            self.shelf.remove(name, [IDS[number]])

    @rule(name=names, condition=wanted_labels | filters)
    def remove_matching(self, name: str, condition: dict[str, Any]) -> None:
        query, exists = {"filter": json.dumps(condition)}, name in self.shelf.collections
        answer = self.ask("DELETE", f"/v1/collections/{name}/images", 200 if exists else 404, params=query)
        if exists:
            gone = self.shelf.matching(name, condition)
            assert answer == {"num_removed": len(gone)}
            self.shelf.remove(name, gone)

    @rule(name=names)
    def create_collection(self, name: str) -> None:
        self.ask("POST", "/v1/collections", 409 if name in self.shelf.collections else 201, json={"name": name})
        self.shelf.collections.setdefault(name, {})

    @precondition(lambda self: len(self.shelf.collections) > 1)
    @rule(name=names)
    def delete_collection(self, name: str) -> None:
        exists = name in self.shelf.collections
        self.ask("DELETE", f"/v1/collections/{name}", 204 if exists else 404)
        if exists:
            self.shelf.delete_collection(name)

    # Looks.

    @rule(name=names, condition=conditions, limit=st.integers(1, 4))
    def list_images(self, name: str, condition: dict[str, Any] | None, limit: int) -> None:
        query = {"collection": name, "limit": limit} | ({"filter": json.dumps(condition)} if condition else {})
        if name not in self.shelf.collections:
            self.ask("GET", "/v1/images", 404, params=query)
            return
        found = self.walk("/v1/images", query)
        members = self.shelf.collections[name]
        assert [item["id"] for item in found] == self.shelf.matching(name, condition)
        for item in found:
            member = members[item["id"]]
            assert (item["label"], item["filename"]) == (member.label, member.filename)
            assert said(item["metadata"]) == said(member.metadata)

    def walk(self, path: str, query: dict[str, Any]) -> list[dict[str, Any]]:
        """The items of all pages."""
        items: list[dict[str, Any]] = []
        cursor: dict[str, str] = {}
        while True:
            page = self.ask("GET", path, 200, params={**query, **cursor})
            assert len(page["items"]) <= query["limit"]
            items += page["items"]
            if page["next"] is None:
                return items
            assert len(page["items"]) == query["limit"]
            cursor = {"cursor": page["next"]}

    @rule(limit=st.integers(1, 3))
    def list_collections(self, limit: int) -> None:
        found = self.walk("/v1/collections", {"limit": limit})
        expected = {name: len(members) for name, members in self.shelf.collections.items()}
        assert [item["id"] for item in found] == sorted((item["id"] for item in found), reverse=True)
        assert [(item["name"], item["num_images"]) for item in sorted(found, key=lambda item: item["name"])] == sorted(
            expected.items()
        )

    @rule(name=names)
    def count_labels(self, name: str) -> None:
        if name not in self.shelf.collections:
            self.ask("GET", f"/v1/collections/{name}/labels", 404)
            return
        counts = Counter(m.label for m in self.shelf.collections[name].values() if m.label is not None)
        found = self.walk(f"/v1/collections/{name}/labels", {"limit": 2})
        assert {item["label"]: item["num_images"] for item in found} == counts
        assert len(found) == len(counts)

    @rule(number=numbers)
    def get_image(self, number: int) -> None:
        answer = self.ask("GET", f"/v1/images/{IDS[number]}", 200 if IDS[number] in self.shelf.images else 404)
        if IDS[number] in self.shelf.images:
            of = [members[IDS[number]].label for members in self.shelf.collections.values() if IDS[number] in members]
            assert sorted(map(str, of)) == sorted(str(member["label"]) for member in answer["collections"])
            assert self.api.get(f"/v1/images/{IDS[number]}/content").status_code == 200

    @rule(
        number=numbers, name=names, condition=conditions, k=st.integers(1, 4), alias=st.sampled_from([None, *ALIASES])
    )
    def search(self, number: int, name: str, condition: dict[str, Any] | None, k: int, alias: str | None) -> None:
        body = {"image_id": IDS[number], "collection": name, "k": k, "filter": condition, "model": alias}
        model = self.shelf.serving(alias or PRODUCTION)
        if model is None:
            self.ask("POST", "/v1/search", 404 if alias == "canary" else 409, json=body)
        elif IDS[number] not in self.shelf.images or name not in self.shelf.collections:
            self.ask("POST", "/v1/search", 404, json=body)
        else:
            answer = self.ask("POST", "/v1/search", 200, json=body)
            scores = self.shelf.nearest(IDS[number], name, condition, model)
            assert answer["model"] == model
            assert [item["id"] for item in answer["items"]] == list(scores)[:k]
            found = [item["score"] for item in answer["items"]]
            assert found == pytest.approx(list(scores.values())[:k], abs=1e-6)

    # Aliases.

    @rule(alias=st.sampled_from(ALIASES), number=st.integers(0, 1))
    def set_alias(self, alias: str, number: int) -> None:
        model = self.models[number]
        moved = self.ask("PUT", f"/v1/aliases/{alias}", 200, json={"model_id": model})
        self.check_move(moved, alias, model)

    @rule(alias=st.sampled_from(ALIASES))
    def roll_back(self, alias: str) -> None:
        changes = self.shelf.changes.get(alias, [])
        before = changes[-1][0] if changes else None
        status = 200 if before else 409 if changes else 404
        moved = self.ask("POST", f"/v1/aliases/{alias}/rollback", status)
        if before is not None:
            self.check_move(moved, alias, before)

    def check_move(self, moved: dict[str, Any], alias: str, model: str) -> None:
        expected = {"name": alias, "model_id": model, "previous_model_id": self.shelf.point(alias, model)}
        assert {key: moved[key] for key in expected} == expected
        is_needed = alias == PRODUCTION and self.shelf.images > self.shelf.vectors[model]
        assert (moved["index_job_id"] is not None) == is_needed

    @rule(alias=st.sampled_from(ALIASES), limit=st.integers(1, 3))
    def list_changes(self, alias: str, limit: int) -> None:
        if alias not in self.shelf.changes:
            self.ask("GET", f"/v1/aliases/{alias}/history", 404)
            return
        found = self.walk(f"/v1/aliases/{alias}/history", {"limit": limit})
        assert [(item["previous_model_id"], item["model_id"]) for item in reversed(found)] == self.shelf.changes[alias]

    @rule(alias=st.sampled_from([None, *ALIASES]))
    def embed(self, alias: str | None) -> None:
        model = self.shelf.serving(alias or PRODUCTION)
        status = 200 if model else 404 if alias == "canary" else 409
        form = {"model": alias} if alias else {}
        answer = self.ask("POST", "/v1/embeddings", status, files={"files": ("a.png", PICTURES[0])}, data=form)
        assert model is None or answer["model"] == model

    def teardown(self) -> None:
        """At the end, all that there is is what there should be, bytes included."""
        for name in NAMES:
            self.list_images(name, None, 4)  # type: ignore[misc]  # a rule is a function still
        assert len(stored_blobs(self.blobs)) == len(self.shelf.images)


def said(metadata: Any) -> dict[str, Any]:
    """Metadata by their types and digits: PostgreSQL's numbers are decimal."""
    return {key: typed(value) for key, value in metadata.items()}


def test_any_order_of_requests(
    api: httpx.Client, database: Database, api_settings: Settings, storage: LocalStorage, request: pytest.FixtureRequest
) -> None:
    """Every answer of uploads, changes, deletions, lists, searches and switches is the model's."""
    models = [publish(database, storage, alias="made").id for _ in range(2)]
    for model in models:  # each has its table from the beginning: a search before is a conflict
        api.put("/v1/aliases/production", json={"model_id": model}).raise_for_status()
        upload(api, PICTURES[:1])

    def reset() -> None:
        with database.transaction() as session:
            for table in ("collection", "image", "alias_change", "alias", "job"):
                session.execute(text(f"delete from {table}"))
        storage.delete("images")

    bound = type("Bound", (Requests,), {"api": api, "models": models, "blobs": api_settings, "reset": reset})
    is_long = request.config.getoption("--long")
    run_state_machine_as_test(bound, settings=LONG if is_long else BOUNDED)
