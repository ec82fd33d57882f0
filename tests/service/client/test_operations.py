"""The clients' operations against the API: its description, and itself."""

import asyncio
import inspect
import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from service.app import create_app
from service.client import AsyncClient, Client, JobFailed
from service.client.call import Call
from service.client.operation import Listed, Operation
from service.client.operations import Operations
from service.core.db import Database
from service.core.settings import Settings
from service.core.storage import LocalStorage
from tests.service.client.conftest import Ask
from tests.service.conftest import add_dataset
from tests.service.routes.gallery import id_of, picture, pixels_h
from tests.small_models import publish

GENERIC = {"get", "request"}
METHODS = [name for name, value in vars(Operations).items() if isinstance(value, Operation | Listed)]
CONTENTS = [picture(i) for i in range(5)]


@pytest.fixture
def storage(api_settings: Settings) -> Iterator[LocalStorage]:
    """The API's own storage; its images are gone after the test."""
    storage = LocalStorage(api_settings.storage_dir)
    yield storage
    storage.delete("images")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "archive.zip"
    path.write_bytes(bytes(200_000))
    return path


def first_call(build: Callable[..., Any], path: Path) -> tuple[str, str, dict[str, Any]]:
    """Method, path and query of the first request of an operation, with arguments that are as good as any."""
    values = {"archive": path, "path": path, "images": [b"x"], "condition": {}, "content": b"x", "form": "json"}
    parameters = inspect.signature(build).parameters.values()
    wanted = [p for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    built = build(**{p.name: values.get(p.name, "ARG") for p in wanted})
    if isinstance(built, tuple):
        return "GET", built[0], built[1]
    call = built if isinstance(built, Call) else next(built)
    return call.method, call.path, call.arguments.get("params", {})


@pytest.mark.parametrize("name", [name for name in METHODS if name not in GENERIC])
def test_each_operation_is_one_of_the_api(name: str, archive: Path, openapi: dict[str, Any]) -> None:
    """Its method, path and query stand in the OpenAPI document."""
    method, path, query = first_call(vars(Operations)[name].build, archive)
    found = [template for template in openapi if re.fullmatch(re.sub(r"\{\w+\}", "ARG", template), path)]
    assert len(found) == 1, path
    described = openapi[found[0]][method.lower()]
    assert query.keys() <= {parameter["name"] for parameter in described.get("parameters", [])}


@pytest.fixture(scope="module")
def openapi() -> dict[str, Any]:
    """The paths of the API."""
    paths: dict[str, Any] = create_app(Settings(database_url="postgresql://x/y", redis_url="redis://x")).openapi()[
        "paths"
    ]
    return paths


def test_every_operation_says_what_it_does() -> None:
    """`help(Client.embed)` and an editor show it, on both clients."""
    with Client("http://service") as client:
        for name, owner in itertools.product(METHODS, (Client, AsyncClient, client)):
            assert inspect.getdoc(getattr(owner, name)), name


def test_both_clients_go_over_all_pages(api: httpx.Client, database: Database) -> None:
    """Five data sets in pages of two, newest first, the same from each."""
    with database.transaction() as session:
        newest_first = sorted((add_dataset(session).id for _ in range(5)), reverse=True)

    async def awaited() -> list[str]:
        async with AsyncClient(str(api.base_url)) as client:
            return [dataset["id"] async for dataset in client.list_datasets(limit=2)]

    with Client(str(api.base_url)) as client:
        assert [dataset["id"] for dataset in client.list_datasets(limit=2)] == newest_first
    assert asyncio.run(awaited()) == newest_first


def test_both_clients_embed_and_find(
    api: httpx.Client, database: Database, storage: LocalStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files, paths, contents and pairs, in several requests, are rows in their order: the very pixels of each image."""
    publish(database, storage)
    monkeypatch.setattr("service.client.sending.batches", _in_pairs())
    file = tmp_path / "0.png"
    file.write_bytes(CONTENTS[0])
    (tmp_path / "1.png").write_bytes(CONTENTS[1])
    images = [file, str(tmp_path / "1.png"), ("2.png", CONTENTS[2]), *CONTENTS[3:]]
    told: list[tuple[int, int]] = []

    async def awaited() -> Any:
        async with AsyncClient(str(api.base_url)) as client:
            items = await client.add_images(images, collection="pets", labels=list("abcde"))
            vectors = await client.embed(images)
            return items, vectors, await client.get_neighbors(items[2]["id"], collection="pets", k=4)

    items, vectors, hits = asyncio.run(awaited())
    assert [(item["id"], item["label"]) for item in items] == [
        (id_of(content), label) for content, label in zip(CONTENTS, "abcde", strict=True)
    ]
    assert {hit["id"] for hit in hits} == {id_of(c) for c in CONTENTS} - {items[2]["id"]}
    with Client(str(api.base_url)) as client:
        same = client.embed(images, on_progress=lambda done, total: told.append((done, total)))
        stored = client.get_image_embedding(items[4]["id"])
    assert same.shape == (5, 192)
    assert same.dtype == np.float32
    np.testing.assert_array_equal(same, vectors)
    np.testing.assert_allclose(stored, same[4], rtol=1e-6)
    for vector, content in zip(same, CONTENTS, strict=True):
        np.testing.assert_allclose(np.sort(vector), np.sort(pixels_h(content)), atol=1e-6)
    assert told == [(2, 5), (4, 5), (5, 5)]


def test_what_is_no_image_is_named() -> None:
    """Before anything is sent."""
    with Client("http://127.0.0.1:9") as client, pytest.raises(TypeError, match=r"a pair of name and bytes, not 7$"):
        client.embed([7])  # type: ignore[list-item]


def _in_pairs() -> Callable[[Any], Any]:
    from service.local_files import batches  # noqa: PLC0415  # the one that is replaced

    return lambda images: batches(images, num_images=2)


def test_a_file_that_comes_is_whole(
    api: httpx.Client, database: Database, storage: LocalStorage, tmp_path: Path
) -> None:
    """Both clients write the model's file as it is, and nothing where there is none."""
    model = publish(database, storage)

    async def awaited() -> None:
        async with AsyncClient(str(api.base_url)) as client:
            await client.download_model_file(model.id, "model.onnx", tmp_path / "b.onnx")

    asyncio.run(awaited())
    with Client(str(api.base_url)) as client:
        client.download_model_file(model.id, "model.onnx", tmp_path / "a.onnx")
        with pytest.raises(Exception, match=r"has no file 'none', only"):
            client.download_model_file(model.id, "none", tmp_path / "c")
    content = api.get(f"/v1/models/{model.id}/files/model.onnx").content
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes() == content
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.onnx", "b.onnx"]


def test_an_upload_tells_how_far_it_is(ask: Ask, archive: Path) -> None:
    """The bytes sent grow to the file's size; the service gets the file and the form."""
    received: list[bytes] = []
    told: list[tuple[int, int]] = []

    def service(request: httpx.Request) -> httpx.Response:
        received.append(request.content)
        return httpx.Response(202, json={"id": "ds_1"})

    def upload(client: Any) -> Any:
        return client.create_dataset(archive, name="pets", on_progress=lambda *how: told.append(how))

    assert ask(service, upload) == {"id": "ds_1"}
    assert bytes(200_000) in received[0]
    assert b'name="on_invalid"\r\n\r\nreject' in received[0]
    assert [total for _, total in told] == [200_000] * len(told)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1][0] == 200_000
    assert len(told) > 3


def test_a_data_set_that_failed_is_no_wait_without_end(ask: Ask) -> None:
    """Its reason is the error's."""
    dataset = {"id": "ds_1", "status": "failed", "job_id": None, "error": {"code": "empty", "message": "no images"}}
    with pytest.raises(JobFailed, match=r"data set ds_1 failed: no images \(empty\)"):
        ask(lambda _: httpx.Response(200, json=dataset), lambda client: client.wait_for_dataset("ds_1"))


def test_labels_are_as_many_as_images(ask: Ask) -> None:
    """Else they would be those of other images."""
    with pytest.raises(ValueError, match=r"labels: one for each of the 2 images, not 1"):
        ask(httpx.Response, lambda client: client.add_images([b"x", b"y"], collection="pets", labels=["a"]))
