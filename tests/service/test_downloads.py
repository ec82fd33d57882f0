"""Blobs as responses, from a storage that is elsewhere."""

import asyncio
import tempfile
from pathlib import Path

import httpx
import pytest
from obstore.store import MemoryStore
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.core.errors import NotFound
from service.core.storage import ObjectStorage
from service.downloads import send_blob


@pytest.fixture
def remote() -> ObjectStorage:
    """Object storage in memory."""
    storage = ObjectStorage.__new__(ObjectStorage)
    storage.store = MemoryStore()  # type: ignore[assignment]
    return storage


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

    async def get(**headers: str) -> httpx.Response:
        transport = httpx.ASGITransport(Starlette(routes=[Route("/", download)]))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get("/", headers=headers)

    assert asyncio.run(get()).content == b"network"
    assert list(tmp_path.iterdir()) == []
    assert asyncio.run(get(range="bytes=7-")).status_code == 416
    assert list(tmp_path.iterdir()) == []


def test_a_lost_blob_leaves_no_copy(remote: ObjectStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NotFound, and nothing temporary stays."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(NotFound):
        send_blob(remote, "none", media_type="text/plain")
    assert list(tmp_path.iterdir()) == []
