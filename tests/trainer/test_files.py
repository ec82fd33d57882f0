"""Stored files are verified before a process gets them."""

import errno
import hashlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from service.core.errors import Unavailable
from service.core.settings import Settings
from service.core.storage import LocalStorage
from trainer.files import SILENT_SECONDS, NodeFiles
from trainer.host import open_host
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


class BreakingStorage(LocalStorage):
    """A storage that goes away in the middle of a download."""

    def fetch(self, key: str, target: Path) -> Path:
        target.write_bytes(b"half of")
        raise Unavailable("the storage is away")


@pytest.fixture
def remote(tmp_path: Path) -> RemoteStorage:
    """A remote storage with one blob."""
    remote = RemoteStorage(tmp_path / "remote")
    remote.put("key", CONTENT)
    return remote


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A node's empty folder for copies."""
    cache = tmp_path / "cache"
    cache.mkdir()
    return cache


def test_a_remote_file_is_fetched_once_a_node(remote: RemoteStorage, cache: Path) -> None:
    """Also a new worker on the node finds it, and verifies it again."""
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


def test_a_damaged_file_is_refused(remote: RemoteStorage, cache: Path) -> None:
    """The error names the key, and nothing of it is kept."""
    remote.put("key", b"other")
    with pytest.raises(RunError, match="key") as refused:
        NodeFiles(remote, cache).fetch("key", SHA256)
    assert refused.value.code == "corrupt_file"
    assert list(cache.iterdir()) == []


def test_a_download_that_fails_leaves_nothing(cache: Path, tmp_path: Path) -> None:
    """What had arrived when the storage went away is removed."""
    with pytest.raises(Unavailable):
        NodeFiles(BreakingStorage(tmp_path / "remote"), cache).fetch("key", SHA256)
    assert list(cache.iterdir()) == []


def test_a_worker_begins_by_removing_what_killed_ones_were_fetching(cache: Path, tmp_path: Path) -> None:
    """Another worker that shares the folder goes on with a download that grew within the last hour."""
    left, growing = cache / "a.1.partial", cache / "b.2.partial"
    for path, age_seconds in ((left, SILENT_SECONDS + 60), (growing, SILENT_SECONDS - 60)):
        path.touch()
        os.utime(path, (time.time() - age_seconds,) * 2)
    open_host(Settings(data_dir=tmp_path, database_url="postgresql://nowhere"))
    assert list(cache.iterdir()) == [growing]


def test_a_worker_keeps_as_much_as_the_setting_says(cache: Path, tmp_path: Path) -> None:
    """A limit that was lowered holds from the start."""
    (cache / SHA256).write_bytes(CONTENT)
    settings = Settings(data_dir=tmp_path, database_url="postgresql://nowhere", file_cache_bytes=len(CONTENT))
    open_host(settings)
    assert (cache / SHA256).exists()
    open_host(settings.model_copy(update={"file_cache_bytes": len(CONTENT) - 1}))
    assert not (cache / SHA256).exists()


def put_files(remote: RemoteStorage, names: Sequence[str]) -> dict[str, str]:
    """Store a file of 100 bytes under each name; their sha256 sums."""
    contents = {name: name.encode() * 100 for name in names}
    for name, content in contents.items():
        remote.put(name, content)
    return {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}


def test_what_a_run_has_stays_in_the_cache(remote: RemoteStorage, cache: Path, tmp_path: Path) -> None:
    """Where runs need more than the limit, their files stay until they end, and the next one needs no download."""
    sums = put_files(remote, "abc")
    files = NodeFiles(remote, cache, max_bytes=100)
    for name in "ab":
        files.link(name, sums[name], tmp_path / name)
    assert {path.name for path in cache.iterdir()} == {sums[name] for name in "ab"}
    (tmp_path / "a").unlink()
    files.link("c", sums["c"], tmp_path / "c")
    assert {path.name for path in cache.iterdir()} == {sums[name] for name in "bc"}
    assert (tmp_path / "b").read_bytes() == b"b" * 100


def test_what_was_used_longest_ago_leaves_the_cache(remote: RemoteStorage, cache: Path, tmp_path: Path) -> None:
    """Two of three files find room. The first that came was used since, so that the second goes."""
    sums = put_files(remote, "abc")
    files = NodeFiles(remote, cache, max_bytes=200)
    for name, age_seconds in (("a", 2000), ("b", 1000), ("a", 0), ("c", 0)):
        files.link(name, sums[name], tmp_path / name)
        (tmp_path / name).unlink()
        if age_seconds:
            os.utime(cache / sums[name], (time.time() - age_seconds,) * 2)
    assert {path.name for path in cache.iterdir()} == {sums[name] for name in "ac"}
    assert remote.num_fetched == 3


def failing_once(error: OSError, before: Callable[[], None]) -> Callable[[Path, Path], None]:
    """`Path.hardlink_to`, the first call of which does `before` and fails."""
    link, errors = Path.hardlink_to, [error]

    def hardlink_to(self: Path, target: Path) -> None:
        if errors:
            before()
            raise errors.pop()
        link(self, target)

    return hardlink_to


def test_a_copy_that_is_tidied_away_before_it_is_linked_is_fetched_again(
    remote: RemoteStorage, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another worker's tidying between a look and the link costs a download, not the job."""
    gone = FileNotFoundError(errno.ENOENT, "No such file")
    monkeypatch.setattr(Path, "hardlink_to", failing_once(gone, (cache / SHA256).unlink))
    NodeFiles(remote, cache).link("key", SHA256, tmp_path / "run")
    assert (tmp_path / "run").read_bytes() == CONTENT
    assert remote.num_fetched == 2


def test_a_run_on_another_file_system_gets_a_copy(
    remote: RemoteStorage, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no hard link is possible, the run has the content all the same, also after the cache lost it."""
    elsewhere = OSError(errno.EXDEV, "Invalid cross-device link")
    monkeypatch.setattr(Path, "hardlink_to", failing_once(elsewhere, lambda: None))
    NodeFiles(remote, cache, max_bytes=0).link("key", SHA256, tmp_path / "run")
    assert list(cache.iterdir()) == []
    assert (tmp_path / "run").read_bytes() == CONTENT
