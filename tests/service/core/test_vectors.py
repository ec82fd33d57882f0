"""Tables of vectors."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest
from sqlalchemy import delete, select, text

from service.core import vectors
from service.core.db import Database
from service.core.index_search import by_index, prepare
from service.core.tables import DEFAULT_TENANT, EmbeddingTable, Image
from tests.service.core.stored_images import add_images, image_ids, model_of_size
from tests.waiting import wait_until


def test_a_table_is_made_once(database: Database) -> None:
    """Eight threads that ask at the same time get the same table."""
    with database.transaction() as session:
        model = model_of_size(session, 8)
    together = Barrier(8)

    def ask(_: int) -> int:
        together.wait()
        with database.transaction() as session:
            return vectors.ensure_table(session, model, "h").number

    with ThreadPoolExecutor(8) as pool:
        numbers = set(pool.map(ask, range(8)))
    with database.transaction() as session:
        rows = session.scalars(select(EmbeddingTable)).all()
        assert numbers == {row.number for row in rows}
        assert [(row.model_id, row.layer, row.size) for row in rows] == [(model.id, "h", 8)]


def test_vectors_come_back_bit_for_bit(database: Database) -> None:
    """Stored float32 are read as they were written; a second write takes the place of the first."""
    ids = image_ids(3)
    h = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)
    with database.transaction() as session:
        table = vectors.ensure_table(session, model_of_size(session, 5), "h")
        add_images(session, ids)
        vectors.insert_vectors(session, table, ids, -h)
        vectors.insert_vectors(session, table, ids, h)
        found = vectors.stored_vectors(session, table, [*ids[:2], "unknown"])
    assert found.keys() == set(ids[:2])
    for i in range(2):
        np.testing.assert_array_equal(found[ids[i]], h[i])


def test_vectors_lie_in_their_rows(database: Database) -> None:
    """A vector of 512 values is part of its row: nothing of it is stored out of line."""
    ids = image_ids(20)
    with database.transaction() as session:
        table = vectors.ensure_table(session, model_of_size(session, 512), "h")
        add_images(session, ids)
        vectors.insert_vectors(session, table, ids, np.ones((20, 512), np.float32))
        size = "select pg_relation_size(reltoastrelid) from pg_class where relname = :name"
        assert session.scalar(text(size), {"name": vectors.table_name(table)}) == 0


def test_a_table_is_of_its_tenants_images(database: Database, postgres_url: str) -> None:
    """To a worker, who sees all tenants, only theirs are missing in it and can go into it, also of the same bytes."""
    shared, other = sorted(image_ids(2))
    with database.of("theirs").transaction() as session:
        add_images(session, [shared, other])
    with database.transaction() as session:
        add_images(session, [shared])
        table = vectors.ensure_table(session, model_of_size(session, 2), "h")
    worker = Database(postgres_url)
    with worker.transaction() as session:
        missing = vectors.missing_images(session, table, "", 10)
        assert [(image.id, image.tenant) for image in missing] == [(shared, DEFAULT_TENANT)]
        assert vectors.count_missing(session, table) == 1
        vectors.insert_vectors(session, table, [shared, other], np.ones((2, 2), np.float32))
        assert vectors.stored_vectors(session, table, [shared, other]).keys() == {shared}
    worker.close()


def test_missing_images_are_paged_by_id(database: Database) -> None:
    """Pages of images without a vector, in order of id, until none is left."""
    ids = sorted(image_ids(7))
    with database.transaction() as session:
        table = vectors.ensure_table(session, model_of_size(session, 2), "h")
        add_images(session, ids)
        vectors.insert_vectors(session, table, [ids[1], ids[4]], np.ones((2, 2), np.float32))
        first = [image.id for image in vectors.missing_images(session, table, "", 3)]
        second = [image.id for image in vectors.missing_images(session, table, first[-1], 3)]
        assert vectors.count_missing(session, table) == 5
    assert (first, second) == ([ids[0], ids[2], ids[3]], [ids[5], ids[6]])


def test_a_deleted_image_takes_its_vector_along(database: Database) -> None:
    """The vector goes with the image's row, and one that comes after it is left out."""
    ids = image_ids(2)
    with database.transaction() as session:
        table = vectors.ensure_table(session, model_of_size(session, 2), "h")
        add_images(session, ids)
        vectors.insert_vectors(session, table, ids, np.ones((2, 2), np.float32))
        session.execute(delete(Image).where(Image.id == ids[0]))
        vectors.insert_vectors(session, table, ids, np.ones((2, 2), np.float32))
        assert vectors.stored_vectors(session, table, ids).keys() == {ids[1]}


def test_a_deletion_under_way_is_waited_for(database: Database) -> None:
    """A vector whose image is being deleted is left out once that commits, without an error."""
    ids = image_ids(2)
    with database.transaction() as session:
        table = vectors.ensure_table(session, model_of_size(session, 2), "h")
        add_images(session, ids)

    def insert() -> None:
        with database.transaction() as session:
            vectors.insert_vectors(session, table, ids, np.ones((2, 2), np.float32))

    def is_blocked() -> bool:
        with database.transaction() as session:
            waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
            return bool(session.execute(text(waiting)).scalar_one())

    with ThreadPoolExecutor() as pool, database.transaction() as session:
        session.execute(delete(Image).where(Image.id == ids[0]))
        inserting = pool.submit(insert)
        wait_until(is_blocked)
        session.commit()
        inserting.result()
    with database.transaction() as session:
        assert vectors.stored_vectors(session, table, ids).keys() == {ids[1]}


def test_a_models_tables_are_dropped_together(database: Database) -> None:
    """Dropping removes the rows and the tables of all its layers, and no other model's."""
    with database.transaction() as session:
        model, other = model_of_size(session, 2), model_of_size(session, 2)
        tables = [vectors.ensure_table(session, model, layer) for layer in ("h", "z")]
        kept = vectors.ensure_table(session, other, "h")
        vectors.drop_tables(session, model.id)
        assert session.scalars(select(EmbeddingTable)).all() == [kept]
        gone = text("select to_regclass(:name)")
        assert [session.scalar(gone, {"name": vectors.table_name(table)}) for table in tables] == [None, None]


def test_an_index_is_wanted_beyond_the_limit(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table wants an index when it is larger than the limit and has none, however long its vectors are."""
    ids = image_ids(30)
    monkeypatch.setattr(vectors, "EXACT_LIMIT", 20)
    with database.transaction() as session:
        small, large = (vectors.ensure_table(session, model_of_size(session, size), "h") for size in (2, 4001))
        add_images(session, ids)
        for table in (small, large):
            vectors.insert_vectors(session, table, ids, np.ones((30, table.size), np.float32))
            session.execute(text(f"analyze {vectors.table_name(table)}"))
        assert [vectors.needs_index(session, table) for table in (small, large)] == [True, True]
        monkeypatch.setattr(vectors, "EXACT_LIMIT", 30)
        assert not vectors.needs_index(session, small)
    monkeypatch.setattr(vectors, "EXACT_LIMIT", 20)
    vectors.build_index(database.engine, small)
    with database.transaction() as session:
        assert vectors.has_index(session, small)
        assert not vectors.needs_index(session, small)


def test_a_build_has_room_for_its_graph() -> None:
    """A little for a little, 2.5 GB for a million vectors of 512, and never more than 4 GB."""
    sizes = [(1000, 512), (1_000_000, 512), (1_000_000, 8192), (10**8, 512)]
    assert [vectors.build_megabytes(*size) for size in sizes] == [66, 2588, 4096, 4096]


def test_an_index_full_of_dead_is_compacted(database: Database) -> None:
    """A fifth deleted is let be, more is not; after it the index is smaller, finds all that is left, and is let be."""
    ids = image_ids(500)
    h = np.random.default_rng(0).standard_normal((500, 64)).astype(np.float32)
    with database.transaction() as session:
        table = vectors.ensure_table(session, model_of_size(session, 64), "h")
        add_images(session, ids)
        vectors.insert_vectors(session, table, ids, h)
    vectors.build_index(database.engine, table)

    def needs_compacting_without(deleted: list[str]) -> bool:
        with database.transaction() as session:
            session.execute(delete(Image).where(Image.id.in_(deleted)))
            session.execute(text("select pg_stat_force_next_flush()"))  # else it is counted within a second
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text(f"vacuum analyze {vectors.table_name(table)}"))  # as the database does by itself
        with database.transaction() as session:
            return vectors.needs_compacting(session, table)

    def index_bytes() -> int:
        with database.transaction() as session:
            size = text("select pg_relation_size(:name)")
            return int(session.execute(size, {"name": f"{vectors.table_name(table)}_hnsw"}).scalar_one())

    assert not needs_compacting_without(ids[:100])
    assert needs_compacting_without(ids[100:250])
    before = index_bytes()
    vectors.compact_index(database.engine, table)
    assert index_bytes() < 0.7 * before
    assert not needs_compacting_without([])
    with database.transaction() as session:
        prepare(session, 400)
        hits = by_index(session, table, None, h[250], 250, 400)
        assert hits is not None
        assert {hit.image_id for hit in hits} == set(ids[250:])


def test_two_builds_at_once_leave_one_index(database: Database) -> None:
    """Processes that build at the same time don't wait for each other in a circle; a later build replaces the index."""
    with database.transaction() as session:
        table = vectors.ensure_table(session, model_of_size(session, 8), "h")
        add_images(session, ids := image_ids(500))
        h = np.random.default_rng(0).standard_normal((500, 8)).astype(np.float32)
        vectors.insert_vectors(session, table, ids, h)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: vectors.build_index(database.engine, table), range(4)))
    with database.transaction() as session:
        assert vectors.has_index(session, table)
