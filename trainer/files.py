"""Stored files on this node, each verified before its first use."""

import os
import threading
from pathlib import Path

from service.core.storage import Storage, sha256_of
from trainer.run import RunError


class NodeFiles:
    """Files of data sets and models, by their sha256; fetched and verified once in a worker's life."""

    def __init__(self, storage: Storage, folder: Path) -> None:
        self.storage = storage
        self.folder = folder
        self._verified: dict[str, Path] = {}
        self._locks: dict[str, threading.Lock] = {}

    def fetch(self, key: str, sha256: str) -> Path:
        """A file with the blob's content, to be read only. Raises NotFound, or RunError `corrupt_file`."""
        with self._locks.setdefault(sha256, threading.Lock()):
            path = self._verified.get(sha256)
            if path is None or not path.exists():
                path = self._verified[sha256] = self._fetch(key, sha256)
            return path

    def _fetch(self, key: str, sha256: str) -> Path:
        kept = self.folder / sha256
        if kept.exists() and sha256_of(kept) == sha256:
            return kept
        partial = kept.with_name(f"{sha256}.{os.getpid()}.partial")  # other workers may share the folder
        path = self.storage.fetch(key, partial)
        if sha256_of(path) != sha256:
            partial.unlink(missing_ok=True)
            raise RunError("corrupt_file", f"the stored file {key} has another sha256 than when it was stored")
        return path.rename(kept) if path == partial else path

    def link(self, key: str, sha256: str, target: Path) -> None:
        """Have `target` be the verified file."""
        target.symlink_to(self.fetch(key, sha256).resolve())
