"""What a collection's vectors tell, over HTTP."""

import json
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest

from service.arrow_stream import ARROW
from service.core.db import Database
from service.core.storage import LocalStorage
from tests.models.image_files import encode, noise
from tests.service.routes.gallery import id_of, picture, pixels_h, upload
from tests.small_models import publish


def nearly(seed: int, change: int) -> bytes:
    """The picture of that seed with `change` pixel values moved by one: its cosine to it is above 0.999."""
    pixels = noise(8, 8, seed=seed).copy()
    pixels.reshape(-1)[:change] ^= 1
    return encode(pixels, "png")


def cosine(a: bytes, b: bytes) -> float:
    x, y = pixels_h(a), pixels_h(b)
    return float(x @ y / np.linalg.norm(x) / np.linalg.norm(y))


@pytest.fixture
def model_id(api: httpx.Client, database: Database, storage: LocalStorage) -> str:
    """A model in production whose h is the image itself."""
    return publish(database, storage).id


def duplicates(api: httpx.Client, **query: Any) -> list[list[str]]:
    response = api.get("/v1/collections/pets/duplicates", params=query)
    assert response.status_code == 200, response.text
    return [[image["id"] for image in group["images"]] for group in response.json()["items"]]


def test_near_duplicates_are_grouped(api: httpx.Client, model_id: str) -> None:
    """Copies with a few changed pixels form a group, with label and file name; other images form none."""
    copies = [nearly(0, 1), nearly(0, 2), nearly(0, 3)]
    assert upload(api, [*copies, picture(1), picture(2), nearly(2, 1)], collection="pets", label="pet")
    upload(api, [nearly(1, 5)], collection="others")
    expected = sorted([sorted(map(id_of, copies)), sorted(map(id_of, [picture(2), nearly(2, 1)]))])
    assert duplicates(api, threshold=0.999) == expected
    assert duplicates(api, threshold=0.999, limit=1) == expected[:1]
    page = api.get("/v1/collections/pets/duplicates", params={"threshold": 0.999, "limit": 1}).json()
    assert page["model"] == model_id
    assert page["items"][0]["images"][0]["label"] == "pet"
    assert duplicates(api, threshold=0.999, cursor=page["next"]) == expected[1:]


def test_a_near_duplicate_is_kept_reported_or_rejected(api: httpx.Client, model_id: str) -> None:
    """As `on_duplicate` asks, against the collection and the files before it; an equal file is no near-duplicate."""
    upload(api, [picture(0)], collection="pets")
    upload(api, [picture(3)], collection="others")
    files = [nearly(0, 1), picture(3), nearly(3, 1), nearly(3, 2), picture(0), b"no image"]
    (kept,) = upload(api, [nearly(0, 9)], collection="kept", on_duplicate="keep")
    assert kept["near_duplicate"] is None
    rejected = upload(api, files, collection="pets", on_duplicate="reject", duplicate_threshold=0.99)
    assert [item["status"] for item in rejected] == ["rejected", "created", "rejected", "rejected", "exists", "failed"]
    twins = [item["near_duplicate"] and item["near_duplicate"]["id"] for item in rejected]
    assert twins == [id_of(picture(0)), None, id_of(picture(3)), id_of(picture(3)), None, None]
    assert rejected[0]["near_duplicate"]["score"] == pytest.approx(cosine(nearly(0, 1), picture(0)), abs=1e-6)
    assert {item["id"] for item in api.get("/v1/images", params={"collection": "pets"}).json()["items"]} == {
        id_of(picture(0)),
        id_of(picture(3)),
    }
    reported = upload(api, files[:4], collection="pets", on_duplicate="report", duplicate_threshold=0.99)
    assert [item["status"] for item in reported] == ["created", "exists", "created", "created"]
    assert [bool(item["near_duplicate"]) for item in reported] == [True, False, True, True]


def test_when_every_file_is_rejected(api: httpx.Client, model_id: str) -> None:
    """Nothing is stored, and the answer says why."""
    upload(api, [picture(0)], collection="pets")
    (item,) = upload(api, [nearly(0, 1)], collection="pets", on_duplicate="reject")
    assert (item["status"], item["near_duplicate"]["id"]) == ("rejected", id_of(picture(0)))


@pytest.mark.usefixtures("storage")
def test_near_duplicates_need_a_model(api: httpx.Client) -> None:
    """409 where there are no vectors to compare."""
    upload(api, [picture(0)], collection="pets")
    response = api.post("/v1/images", files=[("files", ("0.png", picture(1)))], data={"on_duplicate": "report"})
    assert (response.status_code, response.json()["code"]) == (409, "no_production_model")
    for path in ("duplicates", "map", "quality"):
        response = api.get(f"/v1/collections/pets/{path}")
        assert (response.status_code, response.json()["code"]) == (409, "no_production_model")


def test_a_map_is_the_same_in_json_and_arrow(api: httpx.Client, model_id: str) -> None:
    """Every image once, with its label, at the same place every time."""
    upload(api, [picture(i) for i in range(9)], collection="pets", labels=["a", None, "b"] * 3)
    path = "/v1/collections/pets/map"
    shown = api.get(path).json()
    assert (shown["model"], shown["num_images"]) == (model_id, 9)
    assert {item["id"]: item["label"] for item in shown["items"]} == {
        id_of(picture(i)): ["a", None, "b"][i % 3] for i in range(9)
    }
    response = api.get(path, headers={"Accept": ARROW})
    assert response.headers["content-type"] == ARROW
    table = pa.ipc.open_stream(response.content).read_all()
    assert table.to_pylist() == [
        {**item, "x": np.float32(item["x"]), "y": np.float32(item["y"])} for item in shown["items"]
    ]
    only_a = json.dumps({"op": "equals", "field": "label", "value": "a"})
    assert len(api.get(path, params={"filter": only_a}).json()["items"]) == 3


def test_the_quality_of_labels(api: httpx.Client, model_id: str) -> None:
    """Copies under one label find each other; images under names of their own find nothing of theirs."""
    copies = [nearly(seed, change) for seed in (0, 1) for change in range(1, 6)]
    upload(api, copies, collection="pets", labels=["zero"] * 5 + ["one"] * 5)
    quality = api.get("/v1/collections/pets/quality", params={"k": 4}).json()
    assert (quality["precision_at_k"], quality["purity"]) == (1, 1)
    assert quality["chance"] == pytest.approx(4 / 9)
    assert [label["label"] for label in quality["labels"]] == ["one", "zero"]
    upload(api, copies, collection="others", labels=[str(i) for i in range(10)])
    assert api.get("/v1/collections/others/quality").json()["precision_at_k"] == 0
