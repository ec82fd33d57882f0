"""The rows of tables as files, written and read in one transaction through PostgreSQL's own COPY.

    NAME.copy.zst    the output of COPY NAME (COLUMNS) TO STDOUT in its text format and UTF-8, compressed by Zstandard

The text is exact: PostgreSQL and pgvector write the shortest decimals that are read as the same number. It is pg_dump's
too, but no program has to be at hand, nor one that suits the server's version. Tables of vectors, which no migration
makes, are described by the statements with which PostgreSQL itself would make them.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psycopg
import zstandard
from psycopg.sql import SQL, Identifier

from service.backup import manifest
from service.backup.definitions import definition_of, foreign_keys, index_definitions
from service.core.storage import sha256_of
from service.core.vectors import build_megabytes

TABLES_FOLDER = "tables"  # of a snapshot
BLOCK_BYTES = 2**20

Connection = psycopg.Connection[Any]
Update = Callable[[float, float, str], None]  # done, total, what


def use_exact_texts(connection: Connection) -> None:
    """Have values written and read the same way whatever the server's defaults, until the transaction ends."""
    connection.execute("set local datestyle = 'ISO'")
    connection.execute("set local intervalstyle = 'postgres'")
    connection.execute("set local extra_float_digits = 3")


def hold_tables(connection: Connection, names: Sequence[str]) -> None:
    """Keep tables from being dropped until the transaction ends. Raises UndefinedTable if one has been."""
    for name in names:
        connection.execute(SQL("lock table {} in access share mode").format(Identifier(name)))


def dump_table(connection: Connection, folder: Path, name: str, *, with_definition: bool) -> manifest.Table:
    """Write a table's rows to its file in `folder`."""
    columns = [column for (column,) in connection.execute(COLUMNS, (name,))]
    path = file_of(folder, name)
    statement = SQL("copy {} ({}) to stdout").format(Identifier(name), SQL(", ").join(map(Identifier, columns)))
    with connection.cursor() as cursor:
        with (
            path.open("wb") as file,
            zstandard.ZstdCompressor().stream_writer(file) as compressed,
            cursor.copy(statement) as copy,
        ):
            for block in copy:
                compressed.write(block)
        num_rows = cursor.rowcount
    return manifest.Table(
        name=name,
        columns=columns,
        num_rows=num_rows,
        sha256=sha256_of(path),
        sequence=_sequence_of(connection, name),
        create=definition_of(connection, name) if with_definition else (),
        indexes=index_definitions(connection, name) if with_definition else (),
    )


def load_tables(connection: Connection, folder: Path, tables: Sequence[manifest.Table], update: Update) -> None:
    """Fill the tables, which migrations have made empty, and make the others."""
    for table in tables:
        for statement in table.create:
            connection.execute(statement.encode())
    links = foreign_keys(connection, [table.name for table in tables])
    for link in links:  # some go in circles; checked once all rows are there
        connection.execute(link.drop)
    for done, table in enumerate(tables):
        update(done, len(tables), table.name)
        _load_table(connection, folder, table)
    for link in links:
        connection.execute(link.add)
    for table in tables:
        for statement in table.indexes:
            update(len(tables), len(tables), f"the index of {table.name}")
            _give_memory(connection, table)
            connection.execute(statement.encode())
        connection.execute(SQL("analyze {}").format(Identifier(table.name)))  # the estimates choose how to search


def file_of(folder: Path, name: str) -> Path:
    """Where a table's rows are."""
    return folder / f"{name}.copy.zst"


COLUMNS = """
    select attname from pg_attribute
    where attrelid = to_regclass(%s) and attnum > 0 and not attisdropped order by attnum
"""
COUNTED = """
    select attname, pg_sequence_last_value(pg_get_serial_sequence(attrelid::regclass::text, attname)::regclass)
    from pg_attribute where attrelid = to_regclass(%s) and attidentity <> ''
"""
VECTOR_SIZE = (
    "select max(atttypmod) from pg_attribute where attrelid = to_regclass(%s) and atttypid = 'vector'::regtype"
)


def _load_table(connection: Connection, folder: Path, table: manifest.Table) -> None:
    columns = SQL(", ").join(map(Identifier, table.columns))
    statement = SQL("copy {} ({}) from stdin").format(Identifier(table.name), columns)
    with (
        file_of(folder, table.name).open("rb") as file,
        zstandard.ZstdDecompressor().stream_reader(file) as rows,
        connection.cursor() as cursor,
        cursor.copy(statement) as copy,
    ):
        while block := rows.read(BLOCK_BYTES):
            copy.write(block)
    if table.sequence is not None:
        values = (table.name, table.sequence.column, table.sequence.last_value)
        connection.execute("select setval(pg_get_serial_sequence(%s, %s), %s)", values)


def _sequence_of(connection: Connection, name: str) -> manifest.Sequence | None:
    counted = connection.execute(COUNTED, (name,)).fetchone()
    if counted is None or counted[1] is None:
        return None
    return manifest.Sequence(column=counted[0], last_value=counted[1])


def _give_memory(connection: Connection, table: manifest.Table) -> None:
    """For the build of an index of vectors: one whose graph doesn't fit is many times slower."""
    ((size,),) = connection.execute(VECTOR_SIZE, (table.name,)).fetchall()
    megabytes = build_megabytes(table.num_rows, size)
    connection.execute("select set_config('maintenance_work_mem', %s, true)", (f"{megabytes}MB",))
