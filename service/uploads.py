"""From a request's temporary file to storage, in pieces: an archive is never in memory as a whole."""

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import BinaryIO

from service.core.storage import Storage


@contextmanager
def stored_upload(storage: Storage, folder: str, name: str, source: BinaryIO) -> Iterator[tuple[str, str]]:
    """Store what `source` holds as `folder/name`: yields its key and sha256. If the block raises, nothing is left."""
    sha256 = hashlib.file_digest(source, "sha256").hexdigest()  # type: ignore[arg-type]  # its type lacks readinto
    source.seek(0)
    key = f"{folder}/{name}"
    with ExitStack() as undo:
        undo.callback(storage.delete, folder)
        storage.put_stream(key, source)
        yield key, sha256
        undo.pop_all()
