"""The content of blobs in a backup, by its sha256: the same content is there once, whatever it is called."""

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TypeVar

from service.backup.manifest import Blob

BLOCK_BYTES = 2**20
WORKERS = 8  # most of the time goes into waiting for disks and for the network
BATCH = 1000  # of what is handed to the workers at once

T = TypeVar("T")
R = TypeVar("R")


class BlobFolder:
    """The folder `blobs`; the temporary files are in its subfolder `.partial`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.partial = folder / ".partial"

    def path(self, sha256: str) -> Path:
        """Where that content is, or would be."""
        return self.folder / sha256[:2] / sha256

    def find(self, sha256: str) -> Blob | None:
        """That content, if it is here."""
        try:
            return Blob(sha256, self.path(sha256).stat().st_size)
        except FileNotFoundError:
            return None

    def add(self, source: Path) -> Blob:
        """Copy a file's content, durably, unless it is here."""
        self.partial.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=self.partial)
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as target, source.open("rb") as file:
                digest = hashlib.sha256()
                while block := file.read(BLOCK_BYTES):
                    digest.update(block)
                    target.write(block)
                target.flush()
                os.fsync(target.fileno())
                num_bytes = target.tell()
            path = self.path(digest.hexdigest())
            path.parent.mkdir(exist_ok=True)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        return Blob(path.name, num_bytes)

    def keep_only(self, kept: set[str]) -> None:
        """Delete all content but that of these sums."""
        for path in self.folder.glob("[0-9a-f][0-9a-f]/*"):
            if path.name not in kept:
                path.unlink()


def side_by_side(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """`map` by several threads, in order, with a bounded number of items under way."""
    remaining = iter(items)
    with ThreadPoolExecutor(WORKERS) as pool:
        while batch := list(islice(remaining, BATCH)):
            yield from pool.map(work, batch)
