"""Embeddings over HTTP."""

import base64
import io
import json
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest
import torch
from openai import OpenAI
from PIL import Image

from models.preprocess import decode, to_input
from service.client import Client
from service.core.db import Database
from service.core.storage import LocalStorage
from service.core.tables import Model
from service.schemas.embeddings import EmbeddingList
from tests.models.exported import network
from tests.models.image_files import encode, noise
from tests.models.test_preprocess import PNGS
from tests.service.routes.gallery import LIMITS, picture, pixels_h
from tests.small_models import publish, recipe_of


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
        "turn",
        "decode",
        "queue",
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


def test_one_bad_image_fails_alone(api: httpx.Client, model: Model) -> None:
    """200: the bad ones have a code and a reason in place of an embedding, the good one has the vector it has alone."""
    response = api.post("/v1/embeddings", files=list(as_files([b"x", CONTENTS[0], CONTENTS[1][:50]])))
    assert (response.status_code, response.headers["x-failed-items"]) == (200, "0,2")
    first, good, last = response.json()["data"]
    assert [(item["index"], item["embedding"], item["error"]["code"]) for item in (first, last)] == [
        (0, None, "unsupported_format"),
        (2, None, "undecodable"),
    ]
    assert first["error"]["message"] == "not a JPEG, PNG or WebP file"
    alone = api.post("/v1/embeddings", files=list(as_files([CONTENTS[0]]))).json()["data"][0]
    assert good == {**alone, "index": 1}
    assert EmbeddingList.model_validate(response.json()).data[1].embedding == good["embedding"]


@pytest.mark.parametrize(
    ("files", "form", "accept"),
    [
        ([b"x", CONTENTS[0], CONTENTS[1][:50]], {"on_error": "refuse"}, "*/*"),
        ([b"x", CONTENTS[0], CONTENTS[1][:50]], {}, "application/x-npy"),
        ([b"x", b"y", CONTENTS[1][:50]], {}, "*/*"),
    ],
    ids=["asked for", "NumPy", "all failed"],
)
def test_bad_images_refuse_the_request(
    api: httpx.Client, model: Model, files: list[bytes], form: dict[str, str], accept: str
) -> None:
    """Where the client wants it so, or the format has no place for errors, or nothing is left: the position of each."""
    response = api.post("/v1/embeddings", files=list(as_files(files)), data=form, headers={"Accept": accept})
    assert (response.status_code, response.json()["code"]) == (422, "unsupported_format")
    positions = [str(i) for i, content in enumerate(files) if content not in CONTENTS]
    assert [error["field"] for error in response.json()["errors"]] == positions


def test_a_numpy_file_with_errors_has_rows_of_nan(api: httpx.Client, model: Model) -> None:
    """Where the client takes them so; a header names the rows."""
    response = api.post(
        "/v1/embeddings",
        files=list(as_files([b"x", CONTENTS[0]])),
        data={"on_error": "null"},
        headers={"Accept": "application/x-npy"},
    )
    rows = np.load(io.BytesIO(response.content))
    assert (np.isnan(rows).all(axis=1).tolist(), response.headers["x-failed-items"]) == ([True, False], "0")
    assert np.isfinite(rows[1]).all()


def test_arrow_has_vectors_and_errors(api: httpx.Client, model: Model) -> None:
    """A stream of index, embedding and error; an image has one of the two; the model is in the metadata."""
    response = api.post(
        "/v1/embeddings",
        files=list(as_files([CONTENTS[0], b"x"])),
        data={"layer": "z"},
        headers={"Accept": "application/vnd.apache.arrow.stream, */*"},
    )
    assert response.headers["content-type"] == "application/vnd.apache.arrow.stream"
    table = pa.ipc.open_stream(response.content).read_all()
    assert table.schema.field("embedding").type == pa.list_(pa.float32(), 4)
    assert table.schema.metadata == {b"model": model.id.encode(), b"layer": b"z"}
    first, second = table.to_pylist()
    floats = api.post("/v1/embeddings", files=list(as_files(CONTENTS[:1])), data={"layer": "z"}).json()
    assert first == {
        "index": 0,
        "embedding": np.array(floats["data"][0]["embedding"], np.float32).tolist(),
        "error_code": None,
        "error_message": None,
    }
    assert second == {
        "index": 1,
        "embedding": None,
        "error_code": "unsupported_format",
        "error_message": "not a JPEG, PNG or WebP file",
    }


def test_dimensions_are_those_of_the_layer(api: httpx.Client, model: Model) -> None:
    """OpenAI's `dimensions` may say what is true; anything else is refused with what would be."""
    body = {"input": data_uri(CONTENTS[0]), "layer": "z"}
    assert api.post("/v1/embeddings", json={**body, "dimensions": 4}).status_code == 200
    response = api.post("/v1/embeddings", json={**body, "dimensions": 3})
    assert response.status_code == 422
    message = "4, the size of this model's z, or left out; not 3"
    assert response.json()["errors"] == [{"field": "dimensions", "message": message}]


def test_the_headers_tell_model_and_cache(api: httpx.Client, model: Model) -> None:
    """X-Model-Id is the model behind the alias, X-Cache-Hits the images whose vectors were known."""
    contents = [picture(seed) for seed in (1001, 1002, 1003)]
    headers = [api.post("/v1/embeddings", files=list(as_files(contents[:n]))).headers for n in (2, 3)]
    assert [(h["x-model-id"], h["x-cache-hits"]) for h in headers] == [(model.id, "0"), (model.id, "2")]


def openai(api_url: str) -> OpenAI:
    """OpenAI's client, told no more than where the service is."""
    return OpenAI(base_url=f"{api_url}/v1", api_key="any", http_client=httpx.Client(trust_env=False))


def test_every_client_fetches_the_same_vector(api_url: str, model: Model) -> None:
    """OpenAI's own client in both encodings, curl and this project's client, each as its users write it."""
    uri = data_uri(CONTENTS[0])
    with openai(api_url) as theirs:
        vectors = [
            theirs.embeddings.create(model="production", input=[uri]).data[0].embedding,
            theirs.embeddings.create(model=model.id, input=uri, encoding_format="float").data[0].embedding,
        ]
    curl = ["curl", "--silent", "--noproxy", "*", "-F", "files=@-", f"{api_url}/v1/embeddings"]
    printed = subprocess.run(curl, input=CONTENTS[0], check=True, capture_output=True).stdout
    vectors.append(json.loads(printed)["data"][0]["embedding"])
    with Client(api_url) as client:
        own = client.embed([("a.png", CONTENTS[0])])
    for vector in vectors:
        np.testing.assert_array_equal(np.array(vector, np.float32), own[0])
    np.testing.assert_allclose(np.sort(own[0]), np.sort(pixels_h(CONTENTS[0])), atol=1e-6)


def test_openai_s_client_reads_an_error_in_place_of_an_embedding(api_url: str, model: Model) -> None:
    """A bad image among good ones is no exception: its item says what was wrong."""
    with openai(api_url) as theirs:
        answer = theirs.embeddings.create(model=model.id, input=[data_uri(b"x"), data_uri(CONTENTS[0])])
    bad, good = answer.data
    assert (bad.embedding, bad.model_extra) == (
        None,
        {"error": {"code": "unsupported_format", "message": "not a JPEG, PNG or WebP file"}},
    )
    assert len(good.embedding) == 192


JPEGS = {
    f"JPEG {mode}": encode(Image.fromarray(noise(20, 30)).convert(mode), "jpeg", quality=95)
    for mode in ("RGB", "L", "CMYK")
}
EVERY_MODE = {name: content for name, (content, _) in PNGS.items()} | JPEGS | {"WebP": encode(noise(20, 30), "webp")}


def test_http_serves_what_the_trainer_computes(api: httpx.Client, database: Database, storage: LocalStorage) -> None:
    """Of every kind of image, alone and in company, in every format: the h of torch in float32, cosine 0.9999."""
    publish(database, storage, encoder="resnet10", side=16)
    recipe = recipe_of("resnet10", 16)
    inputs = np.stack([to_input(decode(c, LIMITS).pixels, recipe.preprocessing) for c in EVERY_MODE.values()])
    with torch.no_grad():
        images = torch.from_numpy(inputs).permute(0, 3, 1, 2) / 255  # (M, 3, S, S)
        expected = network(recipe).eval()(images)[0].numpy()  # (M, C)
    files = list(as_files(list(EVERY_MODE.values())))
    company = np.array([item["embedding"] for item in api.post("/v1/embeddings", files=files).json()["data"]])
    npy = {"Accept": "application/x-npy"}
    with Client(str(api.base_url)) as client:
        alone = np.concatenate([client.embed([part]) for _, part in files])
    binary = np.load(io.BytesIO(api.post("/v1/embeddings", files=files, headers=npy).content))
    for served in (company, alone, binary):
        cosines = (served * expected).sum(1) / np.linalg.norm(served, axis=1) / np.linalg.norm(expected, axis=1)
        assert dict(zip(EVERY_MODE, cosines >= 0.9999, strict=True)) == dict.fromkeys(EVERY_MODE, True)


def test_bodies_of_other_types(api: httpx.Client, model: Model) -> None:
    """415 for another Content-Type, 400 for what isn't JSON."""
    assert api.post("/v1/embeddings", content=b"x", headers={"Content-Type": "image/png"}).status_code == 415
    assert api.post("/v1/embeddings", content=b"{", headers={"Content-Type": "application/json"}).status_code == 400


def test_no_model(api: httpx.Client) -> None:
    """409 without a production model, 404 for a name that nothing has."""
    files = list(as_files(CONTENTS[:1]))
    assert api.post("/v1/embeddings", files=files).json()["code"] == "no_production_model"
    assert api.post("/v1/embeddings", files=files, data={"model": "none"}).status_code == 404
