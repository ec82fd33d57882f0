"""Maps that jobs made, over HTTP."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from models.collection_map import MAP_FILE, Points
from service.core import jobs, vectors
from service.core.db import Database
from service.core.maps import map_folder
from service.core.storage import LocalStorage
from service.core.tables import Job, Model
from tests.service.conftest import begin
from tests.service.routes.gallery import id_of, picture, upload
from tests.small_models import publish

CONTENTS = [picture(i) for i in range(6)]
IDS = sorted(map(id_of, CONTENTS))
PATH = "/v1/collections/pets/map"


@pytest.fixture
def model_id(api: httpx.Client, database: Database, storage: LocalStorage) -> str:
    """The model in production; six images in `pets` have its vectors."""
    id_ = publish(database, storage).id
    upload(api, CONTENTS, collection="pets", label="pet")
    return id_


def laid_out(
    api: httpx.Client, database: Database, storage: LocalStorage, model_id: str, points: dict[str, float]
) -> str:
    """The id of a job that has put each image at (x, -x)."""
    collection_id = api.get("/v1/collections/pets").json()["id"]
    created = api.post(
        "/v1/jobs", json={"kind": "map", "model_id": model_id, "recipe": {"collection_id": collection_id}}
    )
    assert created.status_code == 202, created.text
    job_id: str = created.json()["id"]
    with database.transaction() as session:
        job = begin(session, job_id)
        path = Path(storage.root) / "map.npz"
        Points(list(points), np.array([[x, -x] for x in points.values()], np.float32)).save(path)
        storage.put(f"{map_folder(job_id, job.attempt)}/{MAP_FILE}", path.read_bytes())
        jobs.succeed(session, job, {"map": {"sha256": sha256(path.read_bytes()).hexdigest()}})
    return job_id


def shown(api: httpx.Client, **query: Any) -> dict[str, Any]:
    response = api.get(PATH, params={"method": "umap", **query})
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def test_without_a_map_it_says_which_job_makes_one(api: httpx.Client, model_id: str) -> None:
    """404 `no_map`; what it says to POST is taken."""
    response = api.get(PATH, params={"method": "umap"})
    assert (response.status_code, response.json()["code"]) == (404, "no_map")
    request = response.json()["detail"].partition("POST /v1/jobs ")[2]
    created = api.post("/v1/jobs", json=json.loads(request))
    assert created.status_code == 202, created.text
    assert (created.json()["kind"], created.json()["model_id"]) == ("map", model_id)
    assert api.get(PATH, params={"method": "umap"}).json()["code"] == "no_map"  # it hasn't run
    for job_id in (created.json()["id"], "job_01jcz0000000000000000000vv"):
        assert api.get(PATH, params={"job": job_id}).json()["code"] == "no_map"


def test_a_map_has_the_images_that_are_there_still(
    api: httpx.Client, database: Database, storage: LocalStorage, model_id: str
) -> None:
    """At their places; one that left is gone, one that came has no point yet; labels and filters are today's."""
    job_id = laid_out(api, database, storage, model_id, {id_: float(i) for i, id_ in enumerate(IDS)})
    api.delete(f"/v1/images/{IDS[2]}")
    upload(api, [picture(9)], collection="pets")
    api.patch(f"/v1/collections/pets/images/{IDS[0]}", json={"label": "cat"})
    found = shown(api)
    with database.transaction() as session:
        finished_at = session.get_one(Job, job_id).finished_at
    assert finished_at
    assert found["projected_at"] == finished_at.isoformat().replace("+00:00", "Z")
    assert (found["model"], found["method"], found["job_id"]) == (model_id, "umap", job_id)
    assert (found["num_images"], found["num_without_point"]) == (6, 1)
    assert [(item["id"], item["x"], item["y"], item["label"]) for item in found["items"]] == [
        (id_, i, -i, "cat" if i == 0 else "pet") for i, id_ in enumerate(IDS) if i != 2
    ]
    only_cats = json.dumps({"op": "equals", "field": "label", "value": "cat"})
    assert [item["id"] for item in shown(api, filter=only_cats)["items"]] == IDS[:1]
    now = api.get(PATH).json()
    assert (now["method"], now["job_id"], now["projected_at"], now["num_without_point"]) == ("pca", None, None, 0)


def test_the_newest_map_is_shown_and_others_by_their_job(
    api: httpx.Client, database: Database, storage: LocalStorage, model_id: str
) -> None:
    """Each collection and model has its own."""
    first = laid_out(api, database, storage, model_id, {IDS[0]: 1})
    second = laid_out(api, database, storage, model_id, {IDS[0]: 2})
    assert shown(api)["job_id"] == second
    assert shown(api, job=first)["items"][0]["x"] == 1
    upload(api, CONTENTS[:1], collection="others")
    assert api.get("/v1/collections/others/map", params={"job": first}).json()["code"] == "no_map"
    assert api.get("/v1/collections/others/map", params={"method": "umap"}).json()["code"] == "no_map"
    other = publish(database, storage, alias=None).id
    assert api.get(PATH, params={"method": "umap", "model": other}).json()["code"] == "no_map"


def test_a_damaged_map_is_not_shown(
    api: httpx.Client, database: Database, storage: LocalStorage, model_id: str
) -> None:
    """503, whether it is changed or lost."""
    job_id = laid_out(api, database, storage, model_id, {IDS[0]: 1})
    path = storage.root / map_folder(job_id, 1) / MAP_FILE
    path.write_bytes(b"\x00" + path.read_bytes()[1:])
    for _ in range(2):
        response = api.get(PATH, params={"method": "umap"})
        assert (response.status_code, response.json()["code"]) == (503, "map_damaged")
        path.unlink(missing_ok=True)


def test_a_map_goes_with_its_collection_or_model(
    api: httpx.Client, database: Database, storage: LocalStorage, model_id: str
) -> None:
    """Its file is deleted, and its job tells no more of it."""
    other = publish(database, storage, alias=None).id
    with database.transaction() as session:
        vectors.ensure_table(session, session.get_one(Model, other), "h")
    of_model = laid_out(api, database, storage, other, {IDS[0]: 1})
    of_collection = laid_out(api, database, storage, model_id, {IDS[0]: 1})
    for path, job_id in ((f"/v1/models/{other}", of_model), ("/v1/collections/pets", of_collection)):
        assert api.delete(path).status_code == 204
        assert not (storage.root / map_folder(job_id, 1) / MAP_FILE).exists()
        assert api.get(f"/v1/jobs/{job_id}").json()["result"] == {}


def test_a_map_needs_a_collection_with_vectors(api: httpx.Client, database: Database, storage: LocalStorage) -> None:
    """422 names the collection that isn't there, 409 says that nothing has a vector of the model."""
    model_id = publish(database, storage, alias=None).id
    request = {"kind": "map", "model_id": model_id, "recipe": {"collection_id": "col_01jcz0000000000000000000vv"}}
    response = api.post("/v1/jobs", json=request)
    assert [error["field"] for error in response.json()["errors"]] == ["recipe.collection_id"]
    upload(api, CONTENTS[:1], collection="pets")
    request["recipe"] = {"collection_id": api.get("/v1/collections/pets").json()["id"]}
    response = api.post("/v1/jobs", json=request)
    assert (response.status_code, response.json()["code"]) == (409, "not_indexed")
