"""Blobs in a local folder and in S3-compatible storage behave alike."""

import errno
import os
import shutil
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from threading import Event, Lock, Thread
from types import SimpleNamespace

import boto3
import pytest
from moto.server import ThreadedMotoServer

from service.core.errors import NotFound, StorageFull, Unavailable
from service.core.settings import Settings
from service.core.storage import CONNECT_SECONDS, LocalStorage, ObjectStorage, Storage, open_storage, sha256_of

CREDENTIALS = {"access_key_id": "key", "secret_access_key": "secret", "region": "us-east-1"}


@pytest.fixture(scope="module")
def s3_endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    client = boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="key", aws_secret_access_key="secret"
    )
    client.create_bucket(Bucket="simclr")
    yield endpoint
    server.stop()


@pytest.fixture(params=["local", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "local":
        return open_storage(Settings(data_dir=tmp_path / "not" / "yet" / "there"))
    endpoint = request.getfixturevalue("s3_endpoint")
    options = {"endpoint": endpoint, **CREDENTIALS}
    return open_storage(Settings(data_dir=tmp_path, storage_url="s3://simclr/tests", storage_options=options))


def test_the_settings_choose_the_storage(storage: Storage, request: pytest.FixtureRequest) -> None:
    """An s3:// URL gives object storage, no URL a folder."""
    expected = LocalStorage if request.node.callspec.params["storage"] == "local" else ObjectStorage
    assert isinstance(storage, expected)


def test_what_was_put_is_got(storage: Storage, tmp_path: Path) -> None:
    """Bytes and files come back as they were, also when a key is overwritten."""
    source = tmp_path / "source"
    source.write_bytes(os.urandom(3_000_000))
    storage.put("images/aa/one", b"first")
    storage.put("images/aa/one", b"second")
    storage.put_file("models/m/model.onnx", source)
    assert storage.get("images/aa/one") == b"second"
    fetched = storage.fetch("models/m/model.onnx", tmp_path / "cache" / "model.onnx")
    assert sha256_of(fetched) == sha256_of(source)


def test_an_open_file_is_stored_from_its_position_on(storage: Storage, tmp_path: Path) -> None:
    """A stream of several pieces comes back as it was, from where it stood."""
    content = os.urandom(3_000_000)
    (tmp_path / "source").write_bytes(content)
    with (tmp_path / "source").open("rb") as source:
        source.seek(1000)
        storage.put_stream("datasets/d/archive", source)
    assert storage.get("datasets/d/archive") == content[1000:]


def test_what_is_absent_is_not_found(storage: Storage, tmp_path: Path) -> None:
    """Getting or fetching a missing key says NotFound and leaves no file."""
    with pytest.raises(NotFound, match="no blob 'images/none'"):
        storage.get("images/none")
    with pytest.raises(NotFound):
        storage.fetch("images/none", tmp_path / "cache" / "none")
    assert not (tmp_path / "cache" / "none").exists()


def test_what_is_deleted_while_it_is_got_is_not_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There at one moment and gone at the next, as under a client that shows what another one deletes."""
    monkeypatch.setattr(Path, "is_file", lambda _: True)
    with pytest.raises(NotFound, match="no blob 'images/gone'"):
        LocalStorage(tmp_path).get("images/gone")


def test_deleting_takes_a_blob_or_a_folder_and_nothing_else(storage: Storage) -> None:
    """`jobs/1` goes with all below it; `jobs/10` stays; deleting what is absent is fine."""
    for key in ("jobs/1/a", "jobs/1/b/c", "jobs/10/a", "single"):
        storage.put(key, b"x")
    storage.delete("jobs/1")
    storage.delete("single")
    storage.delete("never/was")
    for gone in ("jobs/1/a", "jobs/1/b/c", "single"):
        with pytest.raises(NotFound):
            storage.get(gone)
    assert storage.get("jobs/10/a") == b"x"


def test_a_full_disk_keeps_the_old_blob_and_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ENOSPC while flushing is StorageFull; the key still has its old content and no temporary file stays."""
    storage = LocalStorage(tmp_path)
    storage.put("key", b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageFull):
        storage.put("key", b"new")
    assert storage.get("key") == b"old"
    assert list(storage.partial.iterdir()) == []


def test_the_floor_of_free_space_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What begins below the floor, or would end below it, is StorageFull; the old blob stays, and no temporary file."""
    storage = LocalStorage(tmp_path, min_free_bytes=100)
    free = iter([100, 100, 99, 100, 99])  # bytes, at each look: before and after a put
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=next(free)))
    storage.put("key", b"old")
    for _ in ("begins below", "ends below"):
        with pytest.raises(StorageFull, match=r"less than 100 bytes \(SIMCLR_MIN_FREE_BYTES\)"):
            storage.put("key", b"new")
    assert storage.get("key") == b"old"
    assert list(storage.partial.iterdir()) == []


def test_only_uploads_leave_space(tmp_path: Path) -> None:
    """What workers store, a trained model among it, may use the disk to its end."""
    storage = open_storage(Settings(data_dir=tmp_path, min_free_bytes=2**60))
    storage.put("models/m/model.onnx", b"trained for days")
    with pytest.raises(StorageFull):
        open_storage(Settings(data_dir=tmp_path), min_free_bytes=2**60).put("images/i", b"")


def test_local_blobs_are_flushed_before_they_appear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is fsynced before the rename that publishes it, the folder after."""
    storage = LocalStorage(tmp_path)
    order: list[str] = []
    real_fsync, real_rename = os.fsync, Path.rename

    def fsync(descriptor: int) -> None:
        order.append("folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")  # noqa: PTH112  # a descriptor
        real_fsync(descriptor)

    def rename(self: Path, target: Path) -> Path:
        order.append("rename")
        return real_rename(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "rename", rename)
    storage.put("key", b"content")
    assert order == ["file", "rename", "folder"]


def test_an_object_storage_that_is_away_is_unavailable_soon(tmp_path: Path) -> None:
    """Every operation says so within seconds, and when to try again."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        options = {"endpoint": f"http://127.0.0.1:{unused.getsockname()[1]}", **CREDENTIALS}
    storage = ObjectStorage("s3://simclr/tests", options)
    source = tmp_path / "source"
    source.write_bytes(b"content")
    started_at = time.monotonic()
    with source.open("rb") as file:
        for operation in (
            lambda: storage.put("key", b"content"),
            lambda: storage.put_file("key", source),
            lambda: storage.put_stream("key", file),
            lambda: storage.get("key"),
            lambda: storage.fetch("key", tmp_path / "target"),
            lambda: storage.delete("key"),
        ):
            with pytest.raises(Unavailable, match="try again in 5 seconds") as raised:
                operation()
            assert raised.value.retry_after_seconds == 5
    assert time.monotonic() - started_at < 6 * 5


@contextmanager
def _storage_that_fails(statuses: Sequence[int]) -> Iterator[tuple[str, list[str]]]:
    """The endpoint of a storage that answers with these statuses, one after another; the methods that it was asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.command)
            self.send_response(statuses[len(asked) - 1])
            self.send_header("Content-Length", "7")
            self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
            self.send_header("ETag", '"1"')
            self.end_headers()
            self.wfile.write(b"content")

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


def test_a_failure_of_an_object_storage_that_passes_is_not_noticed() -> None:
    """What fails three times is tried a fourth time."""
    with _storage_that_fails([503, 500, 503, 200]) as (endpoint, asked):
        assert ObjectStorage("s3://simclr/tests", {"endpoint": endpoint, **CREDENTIALS}).get("key") == b"content"
    assert asked == ["GET"] * 4


def test_a_failure_of_an_object_storage_that_stays_is_unavailable() -> None:
    """After four times; the caller's own patience decides on more."""
    with _storage_that_fails([503] * 9) as (endpoint, asked):
        storage = ObjectStorage("s3://simclr/tests", {"endpoint": endpoint, **CREDENTIALS})
        with pytest.raises(Unavailable):
            storage.get("key")
    assert asked == ["GET"] * 4


@pytest.mark.skipif(sys.platform != "linux", reason="a full queue of connections drops what comes next on Linux only")
def test_an_object_storage_that_does_not_accept_is_unavailable_soon() -> None:
    """A host that drops what comes, as a firewall does, holds nobody up for longer than the tries take together."""
    with socket.socket() as listener, ExitStack() as waiting:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(2):  # fill its queue
            client = waiting.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        options = {"endpoint": f"http://127.0.0.1:{listener.getsockname()[1]}", **CREDENTIALS}
        storage = ObjectStorage("s3://simclr/tests", options)
        started_at = time.monotonic()
        with pytest.raises(Unavailable):
            storage.get("key")
    assert CONNECT_SECONDS <= time.monotonic() - started_at < 5 + 2 * CONNECT_SECONDS


PIECE = 2**20
STALL_SECONDS = 6


@contextmanager
def _slow_storage(*, pause_seconds: float, stalls_at: int | None = None) -> Iterator[str]:
    """The endpoint of a storage behind a link that carries a piece in each pause, one of them after STALL_SECONDS."""
    link, over = Lock(), Event()
    pieces = count()

    def carry() -> None:
        with link:
            over.wait(STALL_SECONDS if next(pieces) == stalls_at else pause_seconds)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._begin(num_bytes=8 * PIECE)
            with suppress(OSError):  # the client may have given up
                for _ in range(8):
                    carry()
                    self.wfile.write(bytes(PIECE))

        def do_POST(self) -> None:
            tag = "CompleteMultipartUploadResult" if "uploadId" in self.path else "InitiateMultipartUploadResult"
            self.rfile.read(int(self.headers["Content-Length"]))
            answer = f"<{tag}><Bucket>b</Bucket><Key>k</Key><UploadId>1</UploadId><ETag>1</ETag></{tag}>".encode()
            self._begin(num_bytes=len(answer))
            self.wfile.write(answer)

        def do_PUT(self) -> None:
            with suppress(OSError):
                for _ in range(int(self.headers["Content-Length"]) // PIECE):
                    carry()
                    self.rfile.read(PIECE)
                self._begin(num_bytes=0)

        def do_DELETE(self) -> None:
            self._begin(num_bytes=0)

        def _begin(self, num_bytes: int) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(num_bytes))
            self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
            self.send_header("ETag", '"1"')
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        over.set()
        server.shutdown()
        thread.join()


def _impatient(endpoint: str, monkeypatch: pytest.MonkeyPatch, *, silence_seconds: float) -> ObjectStorage:
    monkeypatch.setattr("service.core.storage.SILENCE_SECONDS", silence_seconds)
    return ObjectStorage("s3://simclr/tests", {"endpoint": endpoint, **CREDENTIALS})


def test_a_slow_download_takes_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only silence ends it: what goes on arriving may take longer, up to a day."""
    with _slow_storage(pause_seconds=0.15) as endpoint:
        storage = _impatient(endpoint, monkeypatch, silence_seconds=0.8)
        assert storage.fetch("key", tmp_path / "target").stat().st_size == 8 * PIECE  # in 1.2 s
    options = storage.store.client_options
    assert options is not None
    assert options["timeout"] == "1day"


def test_a_slow_upload_takes_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few of its parts share the link, so each arrives within the time that one has, however many there are."""
    (tmp_path / "source").write_bytes(bytes(40 * PIECE))
    with _slow_storage(pause_seconds=0.05) as endpoint, (tmp_path / "source").open("rb") as source:
        storage = _impatient(endpoint, monkeypatch, silence_seconds=1.2)
        storage.put_stream("key", source)  # in 2 s


@pytest.mark.parametrize("operation", ["get", "put"])
def test_a_storage_that_falls_silent_is_unavailable_soon(
    operation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of a download or an upload, however long those may take as long as they go on."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(bytes(40 * PIECE))
    monkeypatch.setattr("service.core.storage.RETRIES", {"max_retries": 0})
    with _slow_storage(pause_seconds=0.01, stalls_at=4) as endpoint:
        storage = _impatient(endpoint, monkeypatch, silence_seconds=0.5)
        started_at = time.monotonic()
        with pytest.raises(Unavailable):
            _ = storage.fetch("key", target) if operation == "get" else storage.put_file("key", source)
        assert time.monotonic() - started_at < STALL_SECONDS


def test_a_sweep_removes_what_was_left_long_ago(tmp_path: Path) -> None:
    """A temporary file that nobody has written to for a day goes; a newer one and the blobs stay.

    One that is gone before it is looked at is no failure.
    """
    storage = LocalStorage(tmp_path)
    storage.put("key", b"content")
    old, new = storage.partial / "old", storage.partial / "new"
    for path, age_seconds in ((old, 86_500), (new, 80_000), (tmp_path / "key", 10**6)):
        path.touch()
        os.utime(path, (time.time() - age_seconds,) * 2)
    gone = storage.partial / "gone"
    gone.symlink_to("nowhere")
    storage.sweep()
    gone.unlink()
    assert list(storage.partial.iterdir()) == [new]
    assert storage.get("key") == b"content"
