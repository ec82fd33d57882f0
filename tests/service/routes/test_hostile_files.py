"""Hostile files over HTTP: each has its one answer, and good requests theirs, with decoders of bounded memory."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from service.core.db import Database
from service.core.settings import Settings
from service.core.storage import LocalStorage
from tests.service.conftest import serving
from tests.service.routes.gallery import picture
from tests.service.routes.hostile_files import FILES, STATUSES
from tests.small_models import publish
from tests.waiting import running_children

MAX_DECODER_BYTES = 300 * 2**20  # 90 MB of it are the interpreter, NumPy and Pillow


@pytest.fixture(scope="module")
def client(api_settings: Settings) -> Iterator[httpx.Client]:
    """A client of an API of little patience."""
    limits = {"decode_timeout_seconds": 0.5, "max_image_pixels": 4_000_000, "max_image_side": 4_000}
    settings = api_settings.model_copy(update={**limits, "max_wait_seconds": 60, "result_cache_bytes": 0})
    with serving(settings) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client


def embed(client: httpx.Client, contents: list[bytes]) -> httpx.Response:
    """The answer to files that call themselves PNG."""
    files = [("files", ("../../a.png", content, "image/png")) for content in contents]
    return client.post("/v1/embeddings", files=files)


def test_there_are_enough() -> None:
    """Sixty files and more, of every kind of answer."""
    assert len(FILES) >= 60


def test_each_file_has_its_answer(client: httpx.Client, database: Database, api_settings: Settings) -> None:
    """Status and code of every file, sent alone; beside them, good requests are all answered with the same vector."""
    publish(database, LocalStorage(api_settings.storage_dir))
    good = picture(1)
    expected = embed(client, [good]).json()["data"][0]["embedding"]
    answers = {}
    with ThreadPoolExecutor(4) as pool:
        others = []
        for name, (content, _) in FILES.items():
            others.append(pool.submit(embed, client, [good]))
            response = embed(client, [content])
            answers[name] = (response.status_code, response.json().get("code", ""))
        vectors = [other.result().json()["data"][0]["embedding"] for other in others]
    assert answers == {name: (STATUSES.get(code, 422), code) for name, (_, code) in FILES.items()}
    assert all(vector == expected for vector in vectors)


def test_together_each_fails_alone(client: httpx.Client, database: Database, api_settings: Settings) -> None:
    """In one request, with two decoders for all: the same codes, a vector for every good image, bounded memory."""
    publish(database, LocalStorage(api_settings.storage_dir))
    response = embed(client, [content for content, _ in FILES.values()])
    assert response.status_code == 200
    codes = [item.get("error", {}).get("code", "") for item in response.json()["data"]]
    assert dict(zip(FILES, codes, strict=True)) == {name: code for name, (_, code) in FILES.items()}
    decoders = running_children("service.decoder_process")
    assert decoders
    assert max(child.memory_info().rss for child in decoders) < MAX_DECODER_BYTES
