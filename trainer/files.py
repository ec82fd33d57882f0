"""Stored files on this node, each verified before its first use."""

import math
import os
import secrets
import shutil
import threading
import time
from contextlib import suppress
from pathlib import Path

from service.core.storage import Storage, sha256_of
from trainer.run import RunError

PARTIAL = ".partial"
SILENT_SECONDS = 3600  # nobody goes on with a download that was not written to for so long


class NodeFiles:
    """Files of data sets and models, by their sha256; fetched and verified once in a worker's life.

    `folder` keeps copies of what a remote storage has, up to `max_bytes`. A run has a hard link to each copy that it
    needs: it never loses one, and those that runs have are known. Other workers may share the folder.
    """

    def __init__(self, storage: Storage, folder: Path, *, max_bytes: float = math.inf) -> None:
        self.storage = storage
        self.folder = folder
        self.max_bytes = max_bytes
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
        partial = kept.with_name(f"{sha256}.{secrets.token_hex(4)}{PARTIAL}")  # other workers may fetch it too
        try:
            path = self.storage.fetch(key, partial)
            if sha256_of(path) != sha256:
                raise RunError("corrupt_file", f"the stored file {key} has another sha256 than when it was stored")
            return path.rename(kept) if path == partial else path
        finally:
            partial.unlink(missing_ok=True)

    def link(self, key: str, sha256: str, target: Path) -> None:
        """Have `target` be the verified file."""
        try:
            self._link(key, sha256, target)
        except FileNotFoundError:  # another worker tidied the copy away before it was linked
            self._link(key, sha256, target)
        self.tidy()

    def _link(self, key: str, sha256: str, target: Path) -> None:
        path = self.fetch(key, sha256)
        if path.parent != self.folder:  # the storage's own
            target.symlink_to(path.resolve())
            return
        with suppress(PermissionError):  # another user's, of a folder that is shared
            os.utime(path)  # the newest: the last that is tidied away
        try:
            target.hardlink_to(path)
        except (FileNotFoundError, FileExistsError):
            raise
        except OSError:  # another file system, or one without hard links
            shutil.copyfile(path, target)

    def tidy(self) -> None:
        """Remove downloads that ended halfway; above `max_bytes` also copies that no run has, the oldest use first."""
        copies = []
        for path in self.folder.iterdir():
            with suppress(FileNotFoundError):  # another worker tidies as well
                status = path.stat()
                if path.suffix != PARTIAL:
                    copies.append((status.st_mtime, status.st_size, status.st_nlink, path))
                elif status.st_mtime < time.time() - SILENT_SECONDS:
                    path.unlink()
        surplus = sum(size for _, size, _, _ in copies) - self.max_bytes
        for _, size, num_links, path in sorted(copies):
            if surplus > 0 and num_links == 1:
                path.unlink(missing_ok=True)
                surplus -= size
