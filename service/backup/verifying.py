"""Whether a snapshot is as it was written: all of it is read."""

from pathlib import Path

from service.backup.blobs import side_by_side
from service.backup.errors import Damaged
from service.backup.folder import BackupFolder
from service.backup.manifest import Manifest, read_manifest
from service.backup.tables import TABLES_FOLDER, Update, file_of
from service.core.storage import sha256_of

MAX_NAMED = 5


def read_verified(backup: BackupFolder, snapshot: Path, update: Update) -> Manifest:
    """The manifest of a snapshot whose files all have their sha256. Raises Damaged, which names those that haven't."""
    manifest = read_manifest(snapshot)
    tables = [(table.name, file_of(snapshot / TABLES_FOLDER, table.name), table.sha256) for table in manifest.tables]
    damaged = [f"{path} (the rows of {name})" for name, path, sha256 in tables if not _has(path, sha256)]
    keys = {blob.sha256: key for key, blob in manifest.blobs.items()}
    wholes = side_by_side(lambda sha256: _has(backup.blobs.path(sha256), sha256), keys)
    for done, (sha256, is_whole) in enumerate(zip(keys, wholes, strict=True), start=1):
        update(done, len(keys), f"{done:,} of {len(keys):,}")
        if not is_whole:
            damaged.append(f"{backup.blobs.path(sha256)} ({keys[sha256]})")
    if damaged:
        more = f" and {len(damaged) - MAX_NAMED} more" if len(damaged) > MAX_NAMED else ""
        raise Damaged(
            f"missing or with another sha256 than when they were written: {', '.join(damaged[:MAX_NAMED])}{more}"
        )
    return manifest


def _has(path: Path, sha256: str) -> bool:
    return path.is_file() and sha256_of(path) == sha256
