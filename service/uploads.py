"""From a request's temporary file to storage, in pieces: an archive is never in memory as a whole."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from service.core.storage import Storage


@dataclass(frozen=True)
class StoredUpload:
    """A blob that is deleted again unless its row is about to be committed."""

    key: str
    sha256: str
    settle: Callable[[], object]
    """Keep it, whatever comes: the commit is next, and even one that fails may have happened."""


@contextmanager
def stored_upload(storage: Storage, folder: str, name: str, source: BinaryIO) -> Iterator[StoredUpload]:
    """Store what `source` holds as `folder/name`. If the block ends before it is settled, nothing is left."""
    sha256 = hashlib.file_digest(source, "sha256").hexdigest()  # type: ignore[arg-type]  # its type lacks readinto
    source.seek(0)
    key = f"{folder}/{name}"
    with ExitStack() as undo:
        undo.callback(storage.delete, folder)
        storage.put_stream(key, source)
        yield StoredUpload(key, sha256, settle=undo.pop_all)
