"""From the storage to a backup: the blobs that rows name, and those that were deleted meanwhile told from lost ones."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from service.backup.blobs import BlobFolder, side_by_side
from service.backup.manifest import Blob
from service.backup.tables import Update
from service.core.errors import NotFound
from service.core.storage import Storage

NOT_THERE, DAMAGED = "is not in the storage", "is damaged in the storage"


class Copying:
    """The blobs of one backup, as far as they are in its folder."""

    def __init__(self, storage: Storage, folder: BlobFolder) -> None:
        self._storage = storage
        self._folder = folder
        self._found: dict[str, Blob] = {}
        self._lost: dict[str, str] = {}
        self._gone: set[str] = set()  # were named, and weren't in the storage

    def copy(self, named: Mapping[str, str], update: Update) -> bool:
        """Copy the blobs of these keys and sums; whether all were there, but for those that are lost.

        A blob is deleted after its row: one that wasn't there, though rows that were read later name it, is lost.
        """
        self._lost |= dict.fromkeys(self._gone & named.keys(), NOT_THERE)
        new = [key for key in named if key not in self._found and key not in self._lost]
        copied = side_by_side(lambda key: self._one(key, named[key]), new)
        for done, (key, blob) in enumerate(zip(new, copied, strict=True), start=1):
            update(done, len(new), f"{done:,} of {len(new):,}")
            if blob is None:
                self._gone.add(key)
            elif blob.sha256 != named[key]:
                self._lost[key] = DAMAGED
            else:
                self._found[key] = blob
        return not (self._gone & named.keys()) - self._lost.keys()

    def copy_logs(self, keys: Sequence[str]) -> None:
        """Copy those that are there: a process that printed nothing has none, and no row says so."""
        new = [key for key in keys if key not in self._found]
        copied = side_by_side(lambda key: self._one(key, None), new)
        self._found |= {key: blob for key, blob in zip(new, copied, strict=True) if blob is not None}

    def found(self, keys: Sequence[str]) -> dict[str, Blob]:
        """Those of the keys whose blob is in the backup."""
        return {key: self._found[key] for key in keys if key in self._found}

    def lost(self, named: Mapping[str, str]) -> dict[str, str]:
        """Those of the keys that the storage hasn't got as their rows say, and why."""
        return {key: self._lost[key] for key in named if key in self._lost}

    def _one(self, key: str, sha256: str | None) -> Blob | None:
        """Copy a blob unless its content is here; None if the storage hasn't got it."""
        if sha256 is not None and (known := self._folder.find(sha256)):
            return known
        with tempfile.TemporaryDirectory(dir=self._folder.partial) as fetched:
            try:
                return self._folder.add(self._storage.fetch(key, Path(fetched) / "blob"))
            except (NotFound, FileNotFoundError):  # the second: it was deleted between a look and its reading
                return None
