"""The vectors of stored images: a table emb_<number> for each (model, layer), made when it is first needed.

Legend: M vectors, D their size.

A table is searched exactly (service/core/nearest.py) until it holds more than EXACT_LIMIT vectors; only then is an
index built, at once over all of them: rows go into a table without index some hundred times faster than into an HNSW
index (measured, 5,000 vectors of 512: 0.2 s against 32 s), and below the limit an exact scan takes milliseconds.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine, text
from sqlalchemy.orm import Session

from service.core.tables import TENANT_PATTERN, EmbeddingTable, Image, Model

EXACT_LIMIT = 20_000
MAX_INDEXED_SIZE = 4000  # of a halfvec HNSW index; of larger vectors it holds the leading part
MAX_DEAD_SHARE = 0.2  # of the vectors that an index holds
TABLES_LOCK, INDEX_LOCK = 0x51_3C_20, 0x51_3C_21  # first halves of advisory lock keys


def table_name(table: EmbeddingTable) -> str:
    """The name of a table of vectors; made from an integer only, so it is safe in SQL."""
    return f"emb_{table.number:d}"


def is_indexed_whole(table: EmbeddingTable) -> bool:
    """Whether an index can hold the table's vectors as they are."""
    return table.size <= MAX_INDEXED_SIZE


def indexed_expression(table: EmbeddingTable, vector: str = "h") -> str:
    """SQL of what the index holds: scaled to length 1, a vector is within half precision's range whatever its own."""
    if is_indexed_whole(table):
        return f"l2_normalize({vector})::halfvec({table.size:d})"
    return f"l2_normalize(subvector({vector}, 1, {MAX_INDEXED_SIZE:d}))::halfvec({MAX_INDEXED_SIZE:d})"


def find_table(session: Session, model_id: str, layer: str) -> EmbeddingTable | None:
    """The table of a model's layer, if there is one yet."""
    return session.query(EmbeddingTable).filter_by(model_id=model_id, layer=layer).one_or_none()


def ensure_table(session: Session, model: Model, layer: str) -> EmbeddingTable:
    """The table of a model's layer, made if there is none; one, however many processes ask at the same time.

    Making it locks the table of images against writes until the transaction ends: call this first in a transaction.
    """
    if found := find_table(session, model.id, layer):
        return found
    session.execute(text("select pg_advisory_xact_lock(:lock, hashtext(:id))"), {"lock": TABLES_LOCK, "id": model.id})
    if found := find_table(session, model.id, layer):
        return found
    table = EmbeddingTable(tenant=model.tenant, model_id=model.id, layer=layer, size=model.layers[layer])
    session.add(table)
    session.flush()
    assert re.match(TENANT_PATTERN, model.tenant)
    # All its rows are of the model's tenant: that is a default, which no insert has to give.
    # Vacuuming an HNSW index takes minutes and costs recall: see compact_index. The heap is vacuumed and analysed.
    # A vector stays in its row as long as that fits a page: out of line, as rows of 2 kB are by default, a scan of
    # 512 values takes three times as long.
    statement = f"""
        create table {table_name(table)} (
            image_id text primary key,
            h vector({table.size:d}) not null,
            tenant text not null default '{model.tenant}',
            foreign key (tenant, image_id) references image (tenant, id) on delete cascade
        ) with (vacuum_index_cleanup = off, toast_tuple_target = 8160)
    """
    session.execute(text(statement))
    return table


def drop_tables(session: Session, model_id: str) -> None:
    """Drop a model's tables of vectors."""
    for table in session.query(EmbeddingTable).filter_by(model_id=model_id):
        session.execute(text(f"drop table {table_name(table)}"))
        session.delete(table)


def insert_vectors(
    session: Session, table: EmbeddingTable, image_ids: Sequence[str], vectors: NDArray[np.float32]
) -> None:
    """Store vectors (M, D) of images, in place of earlier ones. An image that was deleted meanwhile is left out."""
    # The row lock makes a deletion that runs at the same time come before (then no row is found) or after.
    statement = f"""
        insert into {table_name(table)} (image_id, h)
        select id, cast(:h as vector) from image where tenant = :tenant and id = :image_id for key share
        on conflict (image_id) do update set h = excluded.h
    """  # noqa: S608  # the name is made from an integer
    rows = sorted(zip(image_ids, vectors, strict=True), key=lambda row: row[0])  # one order of locks: no deadlock
    session.execute(text(statement), [{"tenant": table.tenant, "image_id": image_id, "h": h} for image_id, h in rows])


def stored_vectors(session: Session, table: EmbeddingTable, image_ids: Iterable[str]) -> dict[str, NDArray[np.float32]]:
    """The vectors (D,) of those of the images that have one."""
    statement = f"select image_id, vector_send(h) from {table_name(table)} where image_id = any(:ids)"  # noqa: S608  # the name is made from an integer
    return {image_id: vector_of(sent) for image_id, sent in session.execute(text(statement), {"ids": list(image_ids)})}


def vector_of(sent: bytes) -> NDArray[np.float32]:
    """A vector (D,) from pgvector's binary form, 4 bytes and big-endian float32; its text takes 20 times as long."""
    return np.frombuffer(sent, ">f4", offset=4).astype(np.float32)


def missing_images(session: Session, table: EmbeddingTable, after: str, limit: int) -> list[Image]:
    """The first images of the table's tenant in order of id, after the id `after`, that have no vector in it."""
    has_none = text(f"not exists (select from {table_name(table)} v where v.image_id = image.id)")
    of_tenant = session.query(Image).filter(Image.tenant == table.tenant, Image.id > after, has_none)
    return of_tenant.order_by(Image.id).limit(limit).all()


def count_missing(session: Session, table: EmbeddingTable) -> int:
    """The number of the tenant's images that have no vector in the table."""
    statement = f"""
        select count(*) from image
        where tenant = :tenant and not exists (select from {table_name(table)} v where v.image_id = image.id)
    """  # noqa: S608  # the name is made from an integer
    return int(session.execute(text(statement), {"tenant": table.tenant}).scalar_one())


def estimated_number(session: Session, table: EmbeddingTable) -> float:
    """The number of the table's vectors, by the database's own estimate."""
    statement = "select reltuples from pg_class where oid = to_regclass(:table)"
    return float(session.execute(text(statement), {"table": table_name(table)}).scalar_one())


def needs_index(session: Session, table: EmbeddingTable) -> bool:
    """Whether the table has outgrown exact search, as far as the database knows, and has no index yet."""
    return estimated_number(session, table) > EXACT_LIMIT and not has_index(session, table)


def has_index(session: Session, table: EmbeddingTable) -> bool:
    """Whether the table has a whole index."""
    statement = "select indisvalid from pg_index where indexrelid = to_regclass(:index)"
    return bool(session.execute(text(statement), {"index": f"{table_name(table)}_hnsw"}).scalar_one_or_none())


def build_megabytes(number: int, size: int) -> int:
    """Memory in which a build holds its graph; one that doesn't fit is built many times slower. 4 GB at most.

    A vector takes 2 bytes a value and 1,500 for its links and the allocator.
    """
    return min(4096, 64 + number * (2 * min(size, MAX_INDEXED_SIZE) + 1500) // 1_000_000)


def build_index(engine: Engine, table: EmbeddingTable) -> None:
    """Build the table's index while reads and writes go on; nothing if another process is at it.

    About 1,500 vectors of 512 a second on two cores. m, ef_construction: the defaults miss whole clusters.
    """
    name = table_name(table)
    with _building(engine, table) as connection:
        if connection is None:
            return
        connection.execute(text(f"drop index concurrently if exists {name}_hnsw"))  # what a killed build left
        statement = f"""
            create index concurrently {name}_hnsw on {name}
            using hnsw (({indexed_expression(table)}) halfvec_cosine_ops) with (m = 24, ef_construction = 200)
        """
        connection.execute(text(statement))


def needs_compacting(session: Session, table: EmbeddingTable) -> bool:
    """Whether the table's index holds many vectors that were deleted, as far as the last ANALYZE knows."""
    statement = """
        select n_dead_tup > :share * (n_live_tup + n_dead_tup)
        from pg_stat_all_tables where relid = to_regclass(:table)
    """
    parameters = {"share": MAX_DEAD_SHARE, "table": table_name(table)}
    return has_index(session, table) and bool(session.execute(text(statement), parameters).scalar_one())


def compact_index(engine: Engine, table: EmbeddingTable) -> None:
    """Rebuild the index without what was deleted, while reads and writes go on and the old one answers.

    Nothing if another process is at it. Then the vacuum of the index finds hardly anything to mend, and takes seconds;
    without it the table would keep the places of what was deleted, and seem to need this again.
    """
    name = table_name(table)
    with _building(engine, table) as connection:
        if connection is None:
            return
        connection.execute(text(f"drop index concurrently if exists {name}_hnsw_ccnew"))  # what a killed one left
        connection.execute(text(f"reindex index concurrently {name}_hnsw"))
        connection.execute(text(f"vacuum (index_cleanup on, analyze) {name}"))


@contextmanager
def _building(engine: Engine, table: EmbeddingTable) -> Iterator[Connection | None]:
    """A connection with memory for a build; None if another process builds this table's index."""
    name = table_name(table)
    lock = {"lock": INDEX_LOCK, "number": table.number}
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        # Waiting for the lock would hold a snapshot, which the other process's build would wait for in turn.
        if not connection.execute(text("select pg_try_advisory_lock(:lock, :number)"), lock).scalar_one():
            yield None
            return
        try:
            number = connection.execute(text(f"select count(*) from {name}")).scalar_one()  # noqa: S608  # from an integer
            memory = {"megabytes": f"{build_megabytes(number, table.size)}MB"}
            connection.execute(text("select set_config('maintenance_work_mem', :megabytes, false)"), memory)
            yield connection
        finally:
            connection.execute(text("reset maintenance_work_mem"))
            connection.execute(text("select pg_advisory_unlock(:lock, :number)"), lock)
