"""Restores a snapshot: what was there is there until all of the new is, and has been checked.

First the blobs, under keys that hold ids which nothing else has; then all rows in one transaction, which ends only when
each blob that they name is in the storage and has its sha256. A restore that fails or is killed leaves the database as
it was, and blobs that take space, nothing more; the next one writes over them.
"""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg
from sqlalchemy import Connection, Engine, text
from sqlalchemy.orm import Session

from service.backup.blobs import BlobFolder, side_by_side
from service.backup.errors import NotRestored
from service.backup.manifest import Blob, Manifest
from service.backup.named import log_keys, named_blobs
from service.backup.tables import TABLES_FOLDER, Update, load_tables, use_exact_texts
from service.core import schema
from service.core.errors import NotFound
from service.core.storage import Storage, sha256_of
from service.core.tables import Base
from service.stages import Stages

MAX_NAMED = 5
VECTORS = "select tablename from pg_tables where schemaname = current_schema() and tablename ~ '^emb_[0-9]+$'"
OTHERS = """
    select count(*) from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'
"""


def rows_there(connection: Connection) -> dict[str, int]:
    """The number of rows in each table of ours that has any."""
    names = [*(table.name for table in Base.metadata.sorted_tables), *connection.execute(text(VECTORS)).scalars()]
    counts = {name: _count(connection, name) for name in names}
    return {name: number for name, number in counts.items() if number}


def _count(connection: Connection, name: str) -> int:
    if connection.execute(text("select to_regclass(:name)"), {"name": name}).scalar_one() is None:
        return 0
    number: int = connection.execute(text(f"select count(*) from {name}")).scalar_one()  # noqa: S608  # one of ours
    return number


def check_target(connection: Connection, manifest: Manifest, *, replace: bool) -> None:
    """Raise NotRestored unless the snapshot can be restored into this database."""
    known = schema.revisions()
    if manifest.revision not in known:
        raise NotRestored(
            f"the backup is of revision {manifest.revision}, by release {manifest.release}; this one knows revisions up"
            f" to {known[0]}: restore it with that release or a newer one"
        )
    if others := connection.execute(text(OTHERS)).scalar_one():
        raise NotRestored(f"{others} other sessions are connected to the database: stop the API and the workers first")
    there = rows_there(connection)
    if there and not replace:
        found = ", ".join(f"{number:,} in {name}" for name, number in there.items())
        raise NotRestored(f"the database has rows ({found}): --replace deletes them all, or name another --data-dir")


def put_blobs(folder: BlobFolder, storage: Storage, blobs: Mapping[str, Blob], update: Update) -> None:
    """Have the storage hold these blobs. What it has under a key is written over."""
    puts = side_by_side(lambda key: storage.put_file(key, folder.path(blobs[key].sha256)), blobs)
    for done, _ in enumerate(puts, start=1):
        update(done, len(blobs), f"{done:,} of {len(blobs):,}")


def restore_rows(engine: Engine, storage: Storage, snapshot: Path, manifest: Manifest, stages: Stages) -> list[str]:
    """Replace all rows by the snapshot's, of this release's tables; the keys of blobs that nothing names any more.

    Raises NotRestored.
    """
    with engine.begin() as connection:
        connection.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": schema.LOCK})
        before = _named_before(connection)
        with stages.stage("rows", "restore the rows") as update:
            _drop_tables(connection)
            schema.upgrade(connection, manifest.revision)
            driver: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]  # it is one
            use_exact_texts(driver)
            load_tables(driver, snapshot / TABLES_FOLDER, manifest.tables, update)
            schema.upgrade(connection)
        named = named_blobs(Session(connection))
        with stages.stage("check", "check what the rows name") as update:
            _check_blobs(storage, {key: named[key] for key in named if key not in manifest.lost}, update)
    return sorted(before - named.keys() - manifest.blobs.keys())


def _named_before(connection: Connection) -> set[str]:
    """What the rows name that are there; those of another release can't be asked, and their blobs stay."""
    if schema.current_revision(connection) != schema.revisions()[0]:
        return set()
    session = Session(connection)
    return {*named_blobs(session), *log_keys(session)}


def _drop_tables(connection: Connection) -> None:
    names = [*connection.execute(text(VECTORS)).scalars(), *Base.metadata.tables, "alembic_version"]
    connection.execute(text(f"drop table if exists {', '.join(names)} cascade"))


def _check_blobs(storage: Storage, named: Mapping[str, str], update: Update) -> None:
    missing = []
    wholes = side_by_side(lambda key: _is_whole(storage, key, named[key]), named)
    for done, (key, is_whole) in enumerate(zip(named, wholes, strict=True), start=1):
        update(done, len(named), f"{done:,} of {len(named):,}")
        if not is_whole:
            missing.append(key)
    if missing:
        examples = ", ".join(missing[:MAX_NAMED])
        raise NotRestored(f"{len(missing)} blobs that rows name are not in the storage as they were: {examples}")


def _is_whole(storage: Storage, key: str, sha256: str) -> bool:
    with TemporaryDirectory() as folder:
        try:
            return sha256_of(storage.fetch(key, Path(folder) / "blob")) == sha256
        except NotFound:
            return False
