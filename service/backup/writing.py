"""Writes a snapshot while the service runs: all of it is of one moment, and nothing that its rows name is missing.

    1. every blob that rows name now is copied, however long that takes
    2. in one transaction, which sees the database as it is at its first look: what was named since is copied; then,
       with all blobs in the backup, the rows are written

A blob is stored before the row that names it is committed, and its content never changes: so what a transaction's rows
name was there when it began, and can only be deleted. What is deleted before step 2 isn't named there any more. If that
happens between the transaction's look and the end of its copying, which has little to do, the transaction is given up
and 2 begins again: nothing is asked of the service. Later deletions do no harm, and the rows may take their time.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import Connection, Engine, NullPool, create_engine, text
from sqlalchemy.orm import Session

from service.backup.copying import Copying
from service.backup.errors import NotWritten
from service.backup.folder import BackupFolder
from service.backup.manifest import Manifest, Table, write_manifest
from service.backup.named import log_keys, named_blobs
from service.backup.tables import TABLES_FOLDER, Update, dump_table, hold_tables, use_exact_texts
from service.core.db import sqlalchemy_url
from service.core.schema import current_revision, revisions
from service.core.storage import Storage
from service.core.tables import Base, EmbeddingTable
from service.core.vectors import table_name
from service.stages import Stages

ROUNDS = 20  # of step 2; each has less to copy than the one before
CLOCK = """select to_char(now() at time zone 'UTC', 'YYYY-MM-DD"T"HH24MISS.MS"Z"')"""


def back_up(database_url: str, storage: Storage, target: Path, stages: Stages) -> Manifest:
    """Add a snapshot to the folder `target`, which is made if there is none. Raises NotWritten."""
    engine = create_engine(sqlalchemy_url(database_url), poolclass=NullPool)
    backup = BackupFolder(target)
    with backup.held():
        copying = Copying(storage, backup.blobs)
        with stages.stage("blobs", "copy the blobs") as update:
            with _moment(engine) as connection:
                _check_revision(connection)
                named, logs = named_blobs(Session(connection)), log_keys(Session(connection))
            copying.copy(named, update)
            copying.copy_logs(logs)
        with stages.stage("rows", "write the rows") as update:
            for _ in range(ROUNDS):
                with _moment(engine) as connection:
                    if made := _write_snapshot(connection, copying, backup, update):
                        return made
    raise NotWritten(f"blobs were deleted while they were copied, {ROUNDS} times in a row: try again")


@contextmanager
def _moment(engine: Engine) -> Iterator[Connection]:
    """A transaction that sees the database as it is at its first statement, for as long as it takes."""
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection, connection.begin():
        connection.execute(text("set transaction read only"))
        yield connection


def _check_revision(connection: Connection) -> None:
    found, newest = current_revision(connection), revisions()[0]
    if found != newest:
        raise NotWritten(
            f"the database's tables are at {found or 'no revision'}, this release's at {newest}: run `simclr migrate`"
        )


def _write_snapshot(connection: Connection, copying: Copying, backup: BackupFolder, update: Update) -> Manifest | None:
    """None if something was deleted between this transaction's look at the rows and the end of its copying."""
    session = Session(connection)
    named, logs = named_blobs(session), log_keys(session)
    vectors = [table_name(table) for table in session.query(EmbeddingTable).order_by(EmbeddingTable.number)]
    driver: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]  # it is one
    try:
        hold_tables(driver, vectors)
    except psycopg.errors.UndefinedTable:  # tables come and go with their model, whatever a snapshot sees
        return None
    if not copying.copy(named, update):
        return None
    copying.copy_logs(logs)
    name = connection.execute(text(CLOCK)).scalar_one()
    with backup.new_snapshot(name) as folder:
        manifest = Manifest(
            made_at=name,
            release=version("simclr-service"),
            revision=revisions()[0],
            tables=_write_tables(driver, vectors, folder / TABLES_FOLDER, update),
            blobs=copying.found([*named, *logs]),
            lost=copying.lost(named),
        )
        write_manifest(folder, manifest)
    return manifest


def _write_tables(driver: psycopg.Connection[Any], vectors: Sequence[str], folder: Path, update: Update) -> list[Table]:
    folder.mkdir()
    use_exact_texts(driver)
    names = [*(table.name for table in Base.metadata.sorted_tables), *vectors]
    tables = []
    for done, name in enumerate(names):
        update(done, len(names), name)
        tables.append(dump_table(driver, folder, name, with_definition=name in vectors))
    return tables
