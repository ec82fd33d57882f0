"""Stored files are verified before a process gets them."""

import hashlib
from pathlib import Path

import pytest

from service.core.storage import LocalStorage
from trainer.files import NodeFiles
from trainer.run import RunError

CONTENT = b"some pixels"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class RemoteStorage(LocalStorage):
    """A storage that has to be copied from, and counts how often."""

    num_fetched = 0

    def fetch(self, key: str, target: Path) -> Path:
        self.num_fetched += 1
        target.write_bytes(super().fetch(key, target).read_bytes())
        return target


@pytest.fixture
def remote(tmp_path: Path) -> RemoteStorage:
    """A remote storage with one blob."""
    remote = RemoteStorage(tmp_path / "remote")
    remote.put("key", CONTENT)
    return remote


def test_a_remote_file_is_fetched_once_a_node(remote: RemoteStorage, tmp_path: Path) -> None:
    """Also a new worker on the node finds it, and verifies it again."""
    cache = tmp_path / "cache"
    cache.mkdir()
    for _ in range(2):
        files = NodeFiles(remote, cache)
        for _ in range(2):
            assert files.fetch("key", SHA256).read_bytes() == CONTENT
    assert remote.num_fetched == 1
    (cache / SHA256).write_bytes(b"damaged")
    assert NodeFiles(remote, cache).fetch("key", SHA256).read_bytes() == CONTENT
    assert remote.num_fetched == 2


def test_a_local_file_is_used_where_it_is(storage: LocalStorage, tmp_path: Path) -> None:
    """The link in the run folder leads to the stored file itself."""
    storage.put("key", CONTENT)
    NodeFiles(storage, tmp_path).link("key", SHA256, tmp_path / "pixels.bin")
    assert (tmp_path / "pixels.bin").resolve() == (storage.root / "key").resolve()


def test_a_damaged_file_is_refused(remote: RemoteStorage, tmp_path: Path) -> None:
    """The error names the key, and nothing of it is kept."""
    remote.put("key", b"other")
    cache = tmp_path / "cache"
    cache.mkdir()
    with pytest.raises(RunError, match="key") as refused:
        NodeFiles(remote, cache).fetch("key", SHA256)
    assert refused.value.code == "corrupt_file"
    assert list(cache.iterdir()) == []
