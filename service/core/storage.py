"""Blobs by key: archives, images, packed data sets, checkpoints, models. A local folder, or S3-compatible storage.

A blob is whole or absent: it is written to a temporary name, flushed to the disk and renamed. Keys are made from
database ids and sha256 sums only, never from names that a user gave.
"""

import errno
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol
from urllib.parse import urlsplit

import obstore
import structlog
from obstore.exceptions import BaseError
from obstore.store import S3Store

from service.core.errors import NotFound, StorageFull, Unavailable
from service.core.settings import Settings

if TYPE_CHECKING:
    from obstore.store import RetryConfig

PARTIAL_SECONDS = 24 * 3600  # no upload or download takes longer
RETRY_AFTER_SECONDS = 5
CONNECT_SECONDS = 2  # that an object storage may take to accept a connection
SILENCE_SECONDS = 30  # that it may send nothing for, to take a part of an upload among it: 5 MiB
PARTS_AT_ONCE = 2  # of an upload: they share the link, which needs 350 kB/s for both to arrive within SILENCE_SECONDS
RETRIES: "RetryConfig" = {
    "max_retries": 3,
    "retry_timeout": timedelta(seconds=5),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=1)},
}

log = structlog.get_logger(__name__)


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Storage(Protocol):
    """Blobs by key. Every operation raises Unavailable if the storage doesn't answer."""

    def put(self, key: str, content: bytes) -> None:
        """Store `content`, durably, before returning. Raises StorageFull."""

    def put_file(self, key: str, source: Path) -> None:
        """Store a copy of the file `source`, durably, before returning. Raises StorageFull."""

    def put_stream(self, key: str, source: BinaryIO) -> None:
        """Store what an open file holds from its position on, durably, before returning. Raises StorageFull."""

    def get(self, key: str) -> bytes:
        """The blob's content. Raises NotFound."""

    def fetch(self, key: str, target: Path) -> Path:
        """A file with the blob's content, to be read only: the stored one, or a copy at `target`. Raises NotFound."""

    def delete(self, prefix: str) -> None:
        """Delete the blob `prefix`, or all blobs below the folder `prefix/`; none is fine."""


def _absent(key: str) -> NotFound:
    return NotFound(f"the storage has no blob {key!r}")


def is_full(error: BaseException | None) -> bool:
    """Whether it is what a disk without space, or a quota, makes of a write."""
    return isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}


@contextmanager
def _full_disk_is_storage_full() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise StorageFull("the storage has no space left; delete data or add space, then try again") from error
        raise


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class LocalStorage:
    """A folder; the temporary files are in its subfolder `.partial`.

    Nothing is put that would leave less than `min_free_bytes` on its disk.
    """

    def __init__(self, root: Path, *, min_free_bytes: int = 0) -> None:
        self.root = root
        self.min_free_bytes = min_free_bytes
        self.partial = root / ".partial"
        self.partial.mkdir(parents=True, exist_ok=True)

    def sweep(self) -> None:
        """Remove the temporary files that processes left which ended while they wrote."""
        for path in self.partial.iterdir():
            with suppress(FileNotFoundError):  # whoever writes it may have just finished
                if path.stat().st_mtime < time.time() - PARTIAL_SECONDS:
                    path.unlink()

    @contextmanager
    def _arriving(self, key: str) -> Iterator[Path]:
        """A temporary path whose file takes the place of `key` when the block ends without an error."""
        target = self.root / key
        with _full_disk_is_storage_full():
            self._check_space()
            descriptor, name = tempfile.mkstemp(dir=self.partial)
            os.close(descriptor)
            temporary = Path(name)
            try:
                yield temporary
                self._check_space()  # it is not known before how much a stream brings
                with temporary.open("rb") as file:
                    os.fsync(file.fileno())
                target.parent.mkdir(parents=True, exist_ok=True)
                temporary.rename(target)
                _sync_folder(target.parent)
            finally:
                temporary.unlink(missing_ok=True)

    def _check_space(self) -> None:
        if self.min_free_bytes and shutil.disk_usage(self.root).free < self.min_free_bytes:
            floor = f"{self.min_free_bytes:,} bytes (SIMCLR_MIN_FREE_BYTES)"
            raise StorageFull(f"the storage's disk would have less than {floor} left; delete data or add space")

    def put(self, key: str, content: bytes) -> None:
        with self._arriving(key) as path:
            path.write_bytes(content)

    def put_file(self, key: str, source: Path) -> None:
        with self._arriving(key) as path:
            shutil.copyfile(source, path)

    def put_stream(self, key: str, source: BinaryIO) -> None:
        with self._arriving(key) as path, path.open("wb") as file:
            shutil.copyfileobj(source, file, 2**20)

    def get(self, key: str) -> bytes:
        try:
            return (self.root / key).read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise _absent(key) from error

    def fetch(self, key: str, target: Path) -> Path:
        path = self.root / key
        if not path.is_file():
            raise _absent(key)
        return path

    def delete(self, prefix: str) -> None:
        path = self.root / prefix
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


@contextmanager
def _failure_is_unavailable() -> Iterator[None]:
    try:
        yield
    except BaseError as error:
        log.warning("storage_away", error=str(error))
        detail = f"the object storage does not do its part; try again in {RETRY_AFTER_SECONDS} seconds"
        raise Unavailable(detail, retry_after_seconds=RETRY_AFTER_SECONDS) from error


class ObjectStorage:
    """S3 or what speaks its protocol; a put there is atomic and durable by itself.

    A storage that is away is noticed within seconds: the caller's client or job tries again, not a thread of ours.
    """

    def __init__(self, url: str, options: dict[str, str]) -> None:
        self.store = S3Store.from_url(
            url,
            config=options,  # type: ignore[arg-type]  # a plain dict
            client_options={
                "allow_http": options.get("endpoint", "").startswith("http://"),
                "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
                "read_timeout": timedelta(seconds=SILENCE_SECONDS),
                "timeout": timedelta(seconds=PARTIAL_SECONDS),  # of a whole download; by default 30 s
            },
            retry_config=RETRIES,
        )

    @_failure_is_unavailable()
    def put(self, key: str, content: bytes) -> None:
        obstore.put(self.store, key, content, max_concurrency=PARTS_AT_ONCE)

    @_failure_is_unavailable()
    def put_file(self, key: str, source: Path) -> None:
        obstore.put(self.store, key, source, max_concurrency=PARTS_AT_ONCE)

    @_failure_is_unavailable()
    def put_stream(self, key: str, source: BinaryIO) -> None:
        obstore.put(self.store, key, source, max_concurrency=PARTS_AT_ONCE)

    @_failure_is_unavailable()
    def get(self, key: str) -> bytes:
        try:
            return bytes(obstore.get(self.store, key).bytes())
        except FileNotFoundError as error:
            raise _absent(key) from error

    @_failure_is_unavailable()
    def fetch(self, key: str, target: Path) -> Path:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with target.open("wb") as file:
                for chunk in obstore.get(self.store, key):
                    file.write(chunk)
        except FileNotFoundError as error:
            target.unlink()
            raise _absent(key) from error
        return target

    @_failure_is_unavailable()
    def delete(self, prefix: str) -> None:
        keys = [meta["path"] for page in obstore.list(self.store, prefix + "/") for meta in page]
        obstore.delete(self.store, [*keys, prefix])


def open_storage(settings: Settings, *, min_free_bytes: int = 0) -> Storage:
    """The storage that the settings name; in a folder, with so much space that is never used up through it."""
    if urlsplit(settings.storage_url).scheme == "s3":
        return ObjectStorage(settings.storage_url, settings.storage_options)
    return LocalStorage(settings.storage_dir, min_free_bytes=min_free_bytes)
