"""Models over HTTP."""

import hashlib

import httpx
import numpy as np
import pytest

from service.core import jobs, vectors
from service.core.db import Database
from service.core.ids import new_id
from service.core.settings import Settings
from service.core.storage import LocalStorage
from service.core.tables import Alias, EmbeddingTable, Model
from tests.service.conftest import add_dataset, add_image, add_model, publish_model

ONNX = bytes(range(256)) * 40


@pytest.fixture
def model_id(api_settings: Settings, database: Database) -> str:
    """A model with one file in storage."""
    with database.transaction() as session:
        return publish_model(session, LocalStorage(api_settings.storage_dir), {"model.onnx": ONNX}).id


def test_a_model_is_shown_without_storage_keys(api: httpx.Client, model_id: str) -> None:
    """Its files are named with their sums and sizes, not with where they are."""
    model = api.get(f"/v1/models/{model_id}").json()
    assert model["files"] == {"model.onnx": {"sha256": hashlib.sha256(ONNX).hexdigest(), "num_bytes": len(ONNX)}}
    assert model["layers"] == {"h": 8, "z": 4}
    assert model["variants"]["float32"]["status"] == "published"
    assert model["aliases"] == []
    assert api.get("/v1/models").json() == {"items": [model], "next": None}


def test_what_its_index_finds_is_shown(api: httpx.Client, database: Database, model_id: str) -> None:
    """A layer that is stored has null figures until its index was measured."""
    with database.transaction() as session:
        table = vectors.ensure_table(session, session.get_one(Model, model_id), "h")
    unmeasured = {"recall": None, "ef_search": None, "num_measured": None, "measured_at": None}
    assert api.get(f"/v1/models/{model_id}").json()["indexes"] == [{"layer": "h", "size": 8, **unmeasured}]
    with database.transaction() as session:
        row = session.get_one(EmbeddingTable, table.number)
        row.recall, row.ef_search, row.num_measured = 0.997, 150, 30_000
    (shown,) = api.get(f"/v1/models/{model_id}").json()["indexes"]
    assert (shown["recall"], shown["ef_search"], shown["num_measured"]) == (0.997, 150, 30_000)


def test_a_file_is_downloaded_whole_in_parts_or_not_at_all(api: httpx.Client, model_id: str) -> None:
    """The ETag is the sha256; a range continues a download; who has the file gets 304."""
    url = f"/v1/models/{model_id}/files/model.onnx"
    response = api.get(url)
    assert response.content == ONNX
    etag = response.headers["etag"]
    assert etag == f'"{hashlib.sha256(ONNX).hexdigest()}"'
    assert response.headers["content-disposition"] == 'attachment; filename="model.onnx"'
    rest = api.get(url, headers={"Range": "bytes=10000-", "If-Range": etag})
    assert (rest.status_code, rest.content) == (206, ONNX[10000:])
    known = api.get(url, headers={"If-None-Match": f'"other", W/{etag}'})
    assert (known.status_code, known.content) == (304, b"")


@pytest.mark.parametrize("name", ["none.onnx", "..%2F..%2Fsecret", "%00"])
def test_only_named_files_are_served(api: httpx.Client, model_id: str, name: str) -> None:
    """Another name is 404 or 422, whatever it looks like."""
    assert api.get(f"/v1/models/{model_id}/files/{name}").status_code in {404, 422}


def test_a_deleted_model_leaves_nothing(
    api: httpx.Client, api_settings: Settings, database: Database, model_id: str
) -> None:
    """Files, vectors and row go."""
    with database.transaction() as session:
        image = add_image(session)
        table = vectors.ensure_table(session, session.get_one(Model, model_id), "h")
        vectors.insert_vectors(session, table, [image.id], np.ones((1, 8), np.float32))
    assert api.delete(f"/v1/models/{model_id}").status_code == 204
    assert api.get(f"/v1/models/{model_id}").status_code == 404
    assert not (api_settings.storage_dir / "models" / model_id).exists()
    with database.transaction() as session:
        assert vectors.find_table(session, model_id, "h") is None
    assert api.delete(f"/v1/models/{model_id}").status_code == 404


def test_a_serving_model_is_kept(api: httpx.Client, database: Database, model_id: str) -> None:
    """409 names the alias that serves it."""
    with database.transaction() as session:
        session.add(Alias(name="production", model_id=model_id))
    response = api.delete(f"/v1/models/{model_id}")
    assert (response.status_code, response.json()["code"]) == (409, "in_use")
    assert "production" in response.json()["detail"]
    assert api.get(f"/v1/models/{model_id}").json()["aliases"] == ["production"]


def test_a_model_that_a_job_needs_is_kept(api: httpx.Client, database: Database, model_id: str) -> None:
    """409 while an unfinished job works on it."""
    with database.transaction() as session:
        job_id = jobs.submit(session, kind="index", recipe={}, model_id=model_id).id
    assert api.delete(f"/v1/models/{model_id}").status_code == 409
    api.post(f"/v1/jobs/{job_id}/cancel")
    assert api.delete(f"/v1/models/{model_id}").status_code == 204


def test_models_outlive_their_data_set(api: httpx.Client, database: Database) -> None:
    """A model whose data set is deleted stays, without it."""
    with database.transaction() as session:
        dataset_id = add_dataset(session).id
        model_id = add_model(session, dataset_id=dataset_id).id
    assert api.delete(f"/v1/datasets/{dataset_id}").status_code == 204
    assert api.get(f"/v1/models/{model_id}").json()["dataset_id"] is None


def test_an_unknown_model_is_not_found(api: httpx.Client) -> None:
    """404 for the model and its files."""
    assert api.get(f"/v1/models/{new_id('mdl')}").status_code == 404
    assert api.get(f"/v1/models/{new_id('mdl')}/files/model.onnx").status_code == 404


@pytest.mark.parametrize(
    ("range_", "status", "content"),
    [
        ("bytes=0-9", 206, ONNX[:10]),
        ("bytes=-10", 206, ONNX[-10:]),
        ("bytes=20000-", 416, None),
        ("cows=0-9", 200, ONNX),
        ("bytes", 200, ONNX),
        ("bytes=9-0", 200, ONNX),
        ("bytes=" + "9" * 5000 + "-", 200, ONNX),
        ("bytes=" + "0-1," * 5000, 200, ONNX),
    ],
)
def test_ranges(api: httpx.Client, model_id: str, range_: str, status: int, content: bytes | None) -> None:
    """What can't be read is passed over, and the file sent whole; 416 for what is beyond it."""
    response = api.get(f"/v1/models/{model_id}/files/model.onnx", headers={"Range": range_})
    assert response.status_code == status
    if content is None:
        assert response.json()["code"] == "range_not_satisfiable"
        assert response.headers["content-range"] == f"bytes */{len(ONNX)}"
    else:
        assert response.content == content
