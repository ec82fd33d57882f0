"""Aliases over HTTP."""

from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from itertools import pairwise

import httpx
import numpy as np
import pytest

from service import canary
from service.core import vectors
from service.core.db import Database
from service.core.ids import new_id
from service.core.settings import Settings
from service.core.storage import LocalStorage
from service.core.tables import Model
from tests.models.image_files import encode, noise
from tests.service.conftest import add_image
from tests.small_models import publish


@pytest.fixture
def model_ids(api_settings: Settings, database: Database) -> list[str]:
    """Three models with their files in storage."""
    return [publish(database, LocalStorage(api_settings.storage_dir), alias=None).id for _ in range(3)]


def put(api: httpx.Client, model_id: str, alias: str = "production") -> httpx.Response:
    return api.put(f"/v1/aliases/{alias}", json={"model_id": model_id})


def history(api: httpx.Client, alias: str = "production") -> list[tuple[str | None, str]]:
    """(from, to) of each change, oldest first."""
    items = api.get(f"/v1/aliases/{alias}/history").json()["items"]
    return [(item["previous_model_id"], item["model_id"]) for item in items][::-1]


def test_an_alias_moves_and_remembers(api: httpx.Client, model_ids: list[str]) -> None:
    """Each switch tells the model before, and is a line of the history; the same model again is none."""
    a, b, _ = model_ids
    assert put(api, a).json()["previous_model_id"] is None
    moved = put(api, b).json()
    assert (moved["name"], moved["model_id"], moved["previous_model_id"]) == ("production", b, a)
    put(api, b)
    assert history(api) == [(None, a), (a, b)]
    listed = api.get("/v1/aliases").json()["items"]
    assert [(item["name"], item["model_id"]) for item in listed] == [("production", b)]


def test_rollback_undoes_the_last_change(api: httpx.Client, model_ids: list[str]) -> None:
    """It serves the model before again, with a line of its own in the history."""
    a, b, _ = model_ids
    put(api, a)
    put(api, b)
    assert api.post("/v1/aliases/production/rollback").json()["model_id"] == a
    assert history(api) == [(None, a), (a, b), (b, a)]


def test_rollback_needs_a_model_to_go_back_to(api: httpx.Client, model_ids: list[str]) -> None:
    """404 for an unknown alias; 409 after its first change, and where the model before was deleted."""
    a, b, _ = model_ids
    assert api.post("/v1/aliases/production/rollback").status_code == 404
    assert api.get("/v1/aliases/production/history").status_code == 404
    put(api, a)
    assert api.post("/v1/aliases/production/rollback").json()["code"] == "no_previous_model"
    put(api, b)
    assert api.delete(f"/v1/models/{a}").status_code == 204
    assert api.post("/v1/aliases/production/rollback").json()["code"] == "no_previous_model"


@pytest.mark.parametrize("damage", ["lost", "changed"])
def test_a_damaged_model_is_not_promoted(
    api: httpx.Client, api_settings: Settings, model_ids: list[str], damage: str
) -> None:
    """409 if a file is missing or differs by a bit; the alias stays where it was."""
    a, b, _ = model_ids
    put(api, a)
    path = api_settings.storage_dir / "models" / b / "model.onnx"
    if damage == "lost":
        path.unlink()
    else:
        path.write_bytes(b"\x03")
    response = put(api, b)
    assert (response.status_code, response.json()["code"]) == (409, "corrupt_model")
    assert history(api) == [(None, a)]


def test_a_model_that_fails_its_canary_is_not_promoted(
    api: httpx.Client, model_ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """409 if it can't embed a few images, though its files are whole; the model before goes on serving."""
    a, b, _ = model_ids
    put(api, a)

    def fail(_embedder: object) -> float:
        raise canary.CanaryFailed("h: not finite")

    monkeypatch.setattr(canary, "check", fail)
    response = put(api, b)
    assert (response.status_code, response.json()["code"]) == (409, "canary_failed")
    assert response.json()["detail"] == f"the model {b} does not serve: h: not finite"
    assert history(api) == [(None, a)]


@pytest.mark.parametrize("spoil", ["garbage", "truncated", "empty"])
def test_a_file_that_cannot_be_opened_is_not_promoted(
    api: httpx.Client, api_settings: Settings, database: Database, model_ids: list[str], spoil: str
) -> None:
    """409 for what ONNX Runtime refuses though it is as it was published; the model before goes on serving."""
    a, b, _ = model_ids
    put(api, a)
    path = api_settings.storage_dir / "models" / b / "model.onnx"
    whole = path.read_bytes()
    content = {"garbage": b"no model", "truncated": whole[: len(whole) // 2], "empty": b""}[spoil]
    path.write_bytes(content)
    with database.transaction() as session:
        row = session.get_one(Model, b)
        row.files = row.files | {"model.onnx": row.files["model.onnx"] | {"sha256": sha256(content).hexdigest()}}
    response = put(api, b)
    assert (response.status_code, response.json()["code"]) == (409, "unreadable_model"), response.text
    assert response.json()["detail"].startswith(f"the model {b} does not serve: model.onnx: ONNX Runtime can't open it")
    assert history(api) == [(None, a)]
    picture = [("files", ("0.png", encode(noise(8, 8), "png")))]
    assert api.post("/v1/embeddings", files=picture).json()["model"] == a
    response = api.post("/v1/embeddings", files=picture, data={"model": b})
    assert (response.status_code, response.json()["code"]) == (503, "unreadable_model")


def test_concurrent_switches_make_one_history(api: httpx.Client, model_ids: list[str]) -> None:
    """Of many switches at once, also the first ones, each change begins where the one before ended."""
    with ThreadPoolExecutor(12) as pool:
        responses = list(pool.map(lambda i: put(api, model_ids[i % 3]), range(24)))
    assert {response.status_code for response in responses} == {200}
    changes = history(api)
    assert changes[0][0] is None
    assert all(before[1] == after[0] for before, after in pairwise(changes))


def test_production_gets_its_missing_vectors(api: httpx.Client, database: Database, model_ids: list[str]) -> None:
    """An index job is queued when a stored image has no vector of the new production model, and only then."""
    a, b, c = model_ids
    assert put(api, a).json()["index_job_id"] is None  # there is no image
    with database.transaction() as session:
        image = add_image(session)
        table = vectors.ensure_table(session, session.get_one(Model, b), "h")
        vectors.insert_vectors(session, table, [image.id], np.ones((1, 192), np.float32))
    assert put(api, b).json()["index_job_id"] is None  # it has its vector
    assert put(api, c, alias="canary").json()["index_job_id"] is None  # it doesn't serve
    job = api.get(f"/v1/jobs/{put(api, c).json()['index_job_id']}").json()
    assert (job["kind"], job["model_id"], job["status"]) == ("index", c, "queued")
    with database.transaction() as session:
        add_image(session)
    assert put(api, b).json()["index_job_id"]


@pytest.mark.parametrize("alias", ["a b", "-x", "x" * 65, "a%00", f"mdl_{'0' * 26}"])
def test_names_of_aliases_are_plain(api: httpx.Client, model_ids: list[str], alias: str) -> None:
    """422 for a name that would need escaping, or be taken for a model's id; also where an index job makes it."""
    assert put(api, model_ids[0], alias).status_code == 422
    job = {"kind": "index", "model_id": model_ids[0], "recipe": {"promote_to": alias}}
    response = api.post("/v1/jobs", json=job)
    assert [error["field"] for error in response.json()["errors"]] == ["recipe.promote_to"]


def test_an_alias_needs_a_model(api: httpx.Client) -> None:
    """422 names model_id, whether it is unknown, malformed or absent."""
    for body in ({"model_id": new_id("mdl")}, {"model_id": "x"}, {}, {"model_id": None}):
        response = api.put("/v1/aliases/production", json=body)
        assert response.status_code == 422
        assert [error["field"] for error in response.json()["errors"]] == ["model_id"]


def test_aliases_are_paged_by_name(api: httpx.Client, model_ids: list[str]) -> None:
    """Pages of 2 list 3 aliases in order of name."""
    for name in ("c", "a", "b"):
        put(api, model_ids[0], name)
    first = api.get("/v1/aliases", params={"limit": 2}).json()
    second = api.get("/v1/aliases", params={"limit": 2, "cursor": first["next"]}).json()
    assert [item["name"] for item in first["items"] + second["items"]] == ["a", "b", "c"]
    assert second["next"] is None
