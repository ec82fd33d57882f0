"""Embeddings over HTTP."""

import base64
import io
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from service.core.db import Database
from service.core.storage import LocalStorage
from service.core.tables import Model
from tests.service.routes.gallery import picture, pixels_h
from tests.small_models import publish


@pytest.fixture
def model(database: Database, storage: LocalStorage) -> Model:
    """A model in production."""
    return publish(database, storage)


def data_uri(content: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(content).decode()


def as_files(contents: list[bytes]) -> Iterator[tuple[str, tuple[str, bytes]]]:
    return (("files", (f"{i}.png", content)) for i, content in enumerate(contents))


CONTENTS = [picture(i) for i in range(3)]


@pytest.mark.parametrize(
    "arguments",
    [
        lambda: {"files": list(as_files(CONTENTS))},
        lambda: {"json": {"input": [data_uri(content) for content in CONTENTS]}},
    ],
    ids=["files", "data URIs"],
)
def test_h_of_each_image_in_order(api: httpx.Client, model: Model, arguments: Callable[[], dict[str, Any]]) -> None:
    """As files or data URIs, in OpenAI's shape: the pixels of each image, and the model that made them."""
    response = api.post("/v1/embeddings", **arguments())
    assert response.status_code == 200
    answer = response.json()
    assert (answer["object"], answer["model"], answer["usage"]["num_images"]) == ("list", model.id, 3)
    assert [(item["object"], item["index"]) for item in answer["data"]] == [("embedding", i) for i in range(3)]
    for item, content in zip(answer["data"], CONTENTS, strict=True):
        np.testing.assert_allclose(np.sort(item["embedding"]), np.sort(pixels_h(content)), atol=1e-6)
    assert [part.split(";")[0] for part in response.headers["server-timing"].split(", ")] == [
        "queue",
        "decode",
        "compute",
        "total",
    ]


def test_the_ways_of_writing_agree(api: httpx.Client, model: Model) -> None:
    """Floats, base64 and a NumPy file hold the same float32 values; one input is a list of one."""
    body = {"input": data_uri(CONTENTS[0]), "model": model.id, "layer": "z"}
    floats = api.post("/v1/embeddings", json=body).json()["data"][0]["embedding"]
    encoded = api.post("/v1/embeddings", json={**body, "encoding_format": "base64"}).json()["data"][0]["embedding"]
    npy = api.post("/v1/embeddings", json=body, headers={"Accept": "application/x-npy"})
    assert npy.headers["content-type"] == "application/x-npy"
    array = np.load(io.BytesIO(npy.content))
    assert (array.shape, array.dtype) == ((1, 4), np.float32)
    np.testing.assert_array_equal(np.array(floats, np.float32), array[0])
    np.testing.assert_array_equal(np.frombuffer(base64.b64decode(encoded), "<f4"), array[0])


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "input"),
        ({"input": []}, "input"),
        ({"input": "https://example.org/a.png"}, "input"),
        ({"input": ["data:image/png;base64,###"]}, "input.0"),
        ({"input": [data_uri(CONTENTS[0])], "layer": "y"}, "layer"),
        ({"input": [data_uri(CONTENTS[0])], "encoding_format": "hex"}, "encoding_format"),
        ({"input": [data_uri(CONTENTS[0])], "dimensions": 3}, "dimensions"),
    ],
)
def test_a_bad_field_is_named(api: httpx.Client, model: Model, body: dict[str, Any], field: str) -> None:
    """422 that names the field."""
    response = api.post("/v1/embeddings", json=body)
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"].startswith(field)


def test_bad_images_are_counted_out(api: httpx.Client, model: Model) -> None:
    """One refused file refuses the request, with the position of each."""
    response = api.post("/v1/embeddings", files=list(as_files([CONTENTS[0], b"x", CONTENTS[1][:50]])))
    assert (response.status_code, response.json()["code"]) == (422, "unsupported_format")
    assert [error["field"] for error in response.json()["errors"]] == ["1", "2"]


def test_bodies_of_other_types(api: httpx.Client, model: Model) -> None:
    """415 for another Content-Type, 400 for what isn't JSON."""
    assert api.post("/v1/embeddings", content=b"x", headers={"Content-Type": "image/png"}).status_code == 415
    assert api.post("/v1/embeddings", content=b"{", headers={"Content-Type": "application/json"}).status_code == 400


def test_no_model(api: httpx.Client) -> None:
    """409 without a production model, 404 for a name that nothing has."""
    files = list(as_files(CONTENTS[:1]))
    assert api.post("/v1/embeddings", files=files).json()["code"] == "no_production_model"
    assert api.post("/v1/embeddings", files=files, data={"model": "none"}).status_code == 404
