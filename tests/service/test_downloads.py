"""Blobs as responses, from a storage that is elsewhere."""

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from obstore.store import MemoryStore
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.core.errors import NotFound
from service.core.storage import LocalStorage, ObjectStorage
from service.downloads import send_blob


@pytest.fixture
def remote() -> ObjectStorage:
    """Object storage in memory."""
    storage = ObjectStorage.__new__(ObjectStorage)
    storage.store = MemoryStore()  # type: ignore[assignment]
    return storage


def got(download: Callable[[Request], Response], **headers: str) -> httpx.Response:
    """What an application of that one operation answers."""

    async def get() -> httpx.Response:
        transport = httpx.ASGITransport(Starlette(routes=[Route("/", download)]))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get("/", headers=headers)

    return asyncio.run(get())


def test_the_copy_is_gone_after_the_download(
    remote: ObjectStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A blob that isn't on this machine is sent from a temporary copy, of which nothing is left."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    remote.put("models/m/model.onnx", b"network")

    def download(request: Request) -> Response:
        response = send_blob(remote, "models/m/model.onnx", media_type="application/octet-stream")
        assert len(list(tmp_path.iterdir())) == 1
        return response

    assert got(download).content == b"network"
    assert list(tmp_path.iterdir()) == []
    assert got(download, range="bytes=7-").status_code == 416
    assert list(tmp_path.iterdir()) == []


def test_a_lost_blob_leaves_no_copy(remote: ObjectStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NotFound, and nothing temporary stays."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(NotFound):
        send_blob(remote, "none", media_type="text/plain")
    assert list(tmp_path.iterdir()) == []


def test_a_blob_that_is_deleted_meanwhile_is_sent_to_its_end(storage: LocalStorage) -> None:
    """Between the check of who asks and the first byte, as when a job's log is replaced or a model deleted."""
    storage.put("models/m/model.onnx", b"network")

    def download(request: Request) -> Response:
        response = send_blob(storage, "models/m/model.onnx", media_type="application/octet-stream")
        storage.delete("models/m")
        return response

    assert got(download).content == b"network"
    storage.put("models/m/model.onnx", b"network")
    assert got(download, range="bytes=3-").content == b"work"
