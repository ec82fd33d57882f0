"""A backup's folder (service/backup/__init__.py draws it): its snapshots, one writer at a time, and what it forgets."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.backup.blobs import BlobFolder
from service.backup.errors import NotRestored, NotWritten
from service.backup.manifest import read_manifest

PARTIAL = ".partial-"


class BackupFolder:
    """The folder at `path`, which may not be there yet."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.blobs = BlobFolder(path / "blobs")
        self.snapshots = path / "snapshots"

    def names(self) -> list[str]:
        """The snapshots, oldest first."""
        return sorted(path.name for path in self.snapshots.glob("[0-9]*"))

    def find(self, name: str | None) -> Path:
        """The folder of a snapshot, by default the newest. Raises NotRestored."""
        names = self.names()
        if not names:
            raise NotRestored(f"{self.path} has no backup: it is the folder that `simclr backup` wrote into")
        if name is not None and name not in names:
            raise NotRestored(f"--at: one of {', '.join(names)}, not {name}")
        return self.snapshots / (name or names[-1])

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder, which is made if there is none, for one writer. Raises NotWritten where another has it."""
        if self.path.exists() and not (self.path.is_dir() and self._is_ours()):
            raise NotWritten(f"{self.path} is there and is no backup: name a new or empty folder")
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise NotWritten(f"another backup is being written into {self.path}") from None
            self._sweep()
            yield
        finally:
            os.close(descriptor)

    def _is_ours(self) -> bool:
        names = {path.name for path in self.path.iterdir()}
        return "snapshots" in names or not names - {"lock", "blobs", "lost+found"}  # begun, or empty as a disk may be

    def _sweep(self) -> None:
        """Remove what a writer that was killed has left."""
        for path in (self.blobs.partial, *self.snapshots.glob(f"{PARTIAL}*")):
            shutil.rmtree(path, ignore_errors=True)
        self.blobs.partial.mkdir(parents=True)
        self.snapshots.mkdir(exist_ok=True)

    @contextmanager
    def new_snapshot(self, name: str) -> Iterator[Path]:
        """A folder that is named when the block ends well."""
        partial = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=self.snapshots))
        try:
            yield partial
            partial.rename(self.snapshots / name)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def keep_newest(self, number: int) -> int:
        """Delete the other snapshots, and the blobs that only they have; how many snapshots were deleted."""
        names = self.names()
        kept = {blob.sha256 for name in names[-number:] for blob in read_manifest(self.snapshots / name).blobs.values()}
        for name in names[:-number]:
            shutil.rmtree(self.snapshots / name)
        self.blobs.keep_only(kept)
        return len(names[:-number])
