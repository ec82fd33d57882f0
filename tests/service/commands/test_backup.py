"""`simclr backup` beside uploads and deletions, and `simclr restore` of what it wrote."""

import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from service.cli import app
from service.commands import backup as commands
from service.core.db import Database
from service.core.schema import migrate
from service.core.settings import Settings
from service.core.storage import open_storage
from service.embedded.postgres import EmbeddedPostgres
from tests.service.conftest import serving
from tests.service.routes.gallery import id_of, picture, upload
from tests.small_models import publish

NUM_IMAGES = 12


def simclr(*arguments: str) -> str:
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    return done.output


def answers(url: str) -> dict[str, Any]:
    """What a client sees of the first images: their vectors, their neighbours, their bytes."""
    with httpx.Client(base_url=url, timeout=30) as api:
        ids = [id_of(picture(seed)) for seed in range(NUM_IMAGES)]
        searches = [api.post("/v1/search", json={"image_id": id_, "collection": "kept", "k": 5}) for id_ in ids]
        files = {"files": ("a.png", picture(3))}
        embedded = api.post("/v1/embeddings", files=files).json()
        exported = api.get("/v1/collections/kept/export?layer=h&format=arrow")
        assert exported.status_code == 200, exported.text
        return {
            "searches": [search.json()["items"] for search in searches],
            "embedding": embedded["data"][0]["embedding"],
            "images": [api.get(f"/v1/images/{id_}").json() for id_ in ids],
            "exported": exported.content,
        }


@pytest.fixture
def settings(
    create_database: Callable[[], str], redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    """Of the service that is backed up, and of the commands."""
    url = create_database()
    migrate(url)
    settings = Settings(data_dir=tmp_path / "data", database_url=url, redis_url=redis_url, auth="off")
    monkeypatch.setattr(commands, "get_settings", lambda: settings)
    return settings


@contextmanager
def traffic(url: str) -> Iterator[None]:
    """Two clients that upload images and delete them again, for as long as the block."""
    stop = threading.Event()

    def go_on(first: int) -> None:
        with httpx.Client(base_url=url, timeout=30) as api:
            for seed in itertools.count(first):
                if stop.is_set():
                    return
                upload(api, [picture(seed)], collection="busy")
                api.delete(f"/v1/images/{id_of(picture(seed))}").raise_for_status()

    with ThreadPoolExecutor(2) as pool:
        clients = [pool.submit(go_on, first) for first in (10**6, 10**7)]
        try:
            yield
        finally:
            stop.set()
        for client in clients:
            client.result()


def test_all_is_back(settings: Settings, tmp_path: Path) -> None:
    """Backed up beside uploads and deletions, restored into a folder that wasn't there, and served from it."""
    with closing(Database(settings.database_url)) as database, serving(settings) as url:
        publish(database, open_storage(settings))
        with httpx.Client(base_url=url, timeout=30) as api:
            upload(api, [picture(seed) for seed in range(NUM_IMAGES)], collection="kept")
        before = answers(url)
        with traffic(url):
            for _ in range(3):
                simclr("backup", str(tmp_path / "backup"), "--keep", "2")
    restored = tmp_path / "restored"
    assert "would restore" in simclr("restore", str(tmp_path / "backup"), "--data-dir", str(restored), "--dry-run")
    assert not (restored / "postgres").exists()
    simclr("restore", str(tmp_path / "backup"), "--data-dir", str(restored))
    server = EmbeddedPostgres(restored / "postgres", restored / "log")
    try:
        changed = {"data_dir": restored, "database_url": server.start()}
        with serving(settings.model_copy(update=changed)) as url:
            assert answers(url) == before
    finally:
        server.stop()


def test_mistakes_are_told_in_one_line(settings: Settings, tmp_path: Path) -> None:
    """A folder that is no backup; a data folder on which nothing runs; lost blobs, with status 1."""
    wrong = CliRunner().invoke(app, ["restore", str(tmp_path)])
    assert (wrong.exit_code, wrong.stderr.count("\n")) == (1, 1)
    assert wrong.stderr.startswith(f"simclr: {tmp_path} has no backup")
    idle = CliRunner().invoke(app, ["backup", str(tmp_path / "b"), "--data-dir", str(tmp_path)])
    assert idle.stderr.startswith("simclr: no `simclr up` runs on")
    with closing(Database(settings.database_url)) as database:
        model = publish(database, open_storage(settings))
    key = model.files["model.onnx"]["key"]
    open_storage(settings).delete(key)
    lost = CliRunner().invoke(app, ["backup", str(tmp_path / "b")])
    assert lost.exit_code == 1
    assert lost.stderr.splitlines() == [
        f"simclr: {key} is not in the storage",
        "simclr: 1 blobs that rows name were lost before this backup; all else is in it",
    ]
