"""Nearest neighbours, against NumPy."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sqlalchemy import text, update
from sqlalchemy.orm import Session

from service.core import exact_search, index_search, vectors
from service.core import nearest as module
from service.core.db import Database
from service.core.filters import Equals, Exists, Not
from service.core.members import count_members
from service.core.nearest import MATRIX_QUERIES, nearest
from service.core.tables import CollectionImage, EmbeddingTable
from tests.service.core.stored_images import add_images, image_ids, model_of_size


def clustered(number: int, size: int, *, seed: int) -> NDArray[np.float32]:
    """Vectors of different lengths around 40 centres."""
    draw = np.random.default_rng(seed)
    centres = draw.standard_normal((40, size))
    spread = centres[draw.integers(0, 40, number)] + 0.4 * draw.standard_normal((number, size))
    return (spread * draw.uniform(0.1, 10, (number, 1))).astype(np.float32)


def cosines(queries: NDArray[np.float32], h: NDArray[np.float32]) -> NDArray[np.float64]:
    """Cosine similarities in float64, from the definition."""
    q, v = queries.astype(np.float64), h.astype(np.float64)
    return np.array([[x @ y / np.sqrt(x @ x) / np.sqrt(y @ y) for y in v] for x in q])


def fill(session: Session, ids: list[str], h: NDArray[np.float32]) -> EmbeddingTable:
    """A table with a vector for each image."""
    table = vectors.ensure_table(session, model_of_size(session, h.shape[1]), "h")
    vectors.insert_vectors(session, table, ids, h)
    return table


@pytest.mark.parametrize("few", [0, 2000])
@pytest.mark.parametrize("num_queries", [3, MATRIX_QUERIES + 2])
def test_exact_search_is_numpys_order(
    database: Database, num_queries: int, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One by one and in a batch over several blocks: NumPy's order and scores, of the collection's images only.

    So it is whether vectors are looked up or joined.
    """
    monkeypatch.setattr(module, "FEW", few)
    monkeypatch.setattr(exact_search, "BLOCK_VALUES", 16 * 70)  # blocks of 70 of the 200 images
    ids = image_ids(300)
    h = clustered(300, 16, seed=0)
    queries = clustered(num_queries, 16, seed=1)
    with database.transaction() as session:
        inside, _ = add_images(session, ids[:200]), add_images(session, ids, name="all")
        table = fill(session, ids, h)
        found = nearest(session, table, queries, collection_id=inside, k=20)
    expected = cosines(queries, h[:200])
    for hits, row in zip(found, expected, strict=True):
        assert [hit.image_id for hit in hits] == [ids[i] for i in np.argsort(-row)[:20]]
        np.testing.assert_allclose([hit.score for hit in hits], np.sort(row)[::-1][:20], atol=1e-6)


@pytest.mark.parametrize("num_queries", [1, MATRIX_QUERIES])
def test_ties_are_in_order_of_id(database: Database, num_queries: int) -> None:
    """Equal vectors come in order of id, also where k cuts among them."""
    ids = image_ids(40)
    h = np.ones((40, 4), np.float32)
    with database.transaction() as session:
        collection = add_images(session, ids)
        table = fill(session, ids, h)
        found = nearest(session, table, h[:num_queries], collection_id=collection, k=7)
    assert [[hit.image_id for hit in hits] for hits in found] == [sorted(ids)[:7]] * num_queries


@pytest.mark.parametrize("num_queries", [1, MATRIX_QUERIES])
def test_a_least_score_and_vectors_without_direction(database: Database, num_queries: int) -> None:
    """Nothing below min_score is found, and never a vector of zeros."""
    ids = image_ids(4)
    h = np.array([[1, 0], [1, 1], [-1, 0], [0, 0]], np.float32)  # cosines 1, 0.707, -1 and none
    queries = np.repeat([[2, 0]], num_queries, axis=0).astype(np.float32)
    with database.transaction() as session:
        collection = add_images(session, ids)
        table = fill(session, ids, h)
        everything = nearest(session, table, queries, collection_id=collection, k=9)
        close = nearest(session, table, queries, collection_id=collection, k=9, min_score=0.7)
    assert [[hit.image_id for hit in hits] for hits in everything] == [ids[:3]] * num_queries
    assert [[hit.image_id for hit in hits] for hits in close] == [ids[:2]] * num_queries


def test_recall_with_the_index(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """On 4,000 clustered vectors the index finds 98 of 100 of the 10 nearest, of a quarter of the images too."""
    monkeypatch.setattr(module, "EXACT_LIMIT", 500)
    ids = image_ids(4000)
    h = clustered(4000, 32, seed=0)
    queries = clustered(50, 32, seed=1)
    with database.transaction() as session:
        everything, quarter = add_images(session, ids), add_images(session, ids[::4], name="quarter")
        table = fill(session, ids, h)
    vectors.build_index(database.engine, table)
    for collection_id, step in ((everything, 1), (quarter, 4)):
        with database.transaction() as session:
            session.execute(text("analyze"))
            before = _index_scans(session, table)
            found = nearest(session, table, queries, collection_id=collection_id, k=10)
        with database.transaction() as session:
            assert _index_scans(session, table) >= before + 50
            exact = nearest(session, table, queries, collection_id=collection_id, k=10, exact=True)
        nearest_ten = np.argsort(-_fast_cosines(queries, h[::step]), axis=1)[:, :10]
        expected = [{ids[::step][i] for i in row} for row in nearest_ten]
        found_ids, exact_ids = ([{hit.image_id for hit in hits} for hits in each] for each in (found, exact))
        shared = [len(ids_found & best) / 10 for ids_found, best in zip(found_ids, expected, strict=True)]
        assert np.mean(shared) >= 0.98
        assert exact_ids == expected


def test_a_filter_that_leaves_out_all_that_is_near(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the index gives up before it meets an image that the filter holds for, the answer is exact."""
    monkeypatch.setattr(module, "EXACT_LIMIT", 100)
    monkeypatch.setattr(index_search, "MAX_TOLD", 200)
    ids = image_ids(1500)
    h = clustered(1500, 16, seed=0)
    query = clustered(1, 16, seed=1)
    far = np.argsort(_fast_cosines(query, h)[0])[:400]
    with database.transaction() as session:
        collection = add_images(session, ids)
        session.execute(
            update(CollectionImage).where(CollectionImage.image_id.in_([ids[i] for i in far])).values(label="far")
        )
        table = fill(session, ids, h)
    vectors.build_index(database.engine, table)
    condition = Equals(op="equals", field="label", value="far")
    with database.transaction() as session:
        (hits,) = nearest(session, table, query, collection_id=collection, k=10, condition=condition)
    assert [hit.image_id for hit in hits] == [ids[i] for i in far[::-1][:10]]


def test_many_members_are_counted_once_a_minute(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A collection that was large is, and a filter that held for many; few are counted every time."""
    labelled = Exists(op="exists", field="label")
    unlabelled = Not(op="not", filter=labelled)
    now, counted = [100.0], []

    def count(*arguments: Any) -> int:
        counted.append(now[0])
        return count_members(*arguments)

    monkeypatch.setattr(module, "EXACT_LIMIT", 20)
    monkeypatch.setattr(module, "monotonic", lambda: now[0])
    monkeypatch.setattr(module, "count_members", count)
    ids, h = image_ids(30), clustered(30, 4, seed=0)
    with database.transaction() as session:
        large, small = add_images(session, ids), add_images(session, ids[:20], name="small")
        table = fill(session, ids, h)
        for at, collection, condition, expected in (
            (100.0, large, None, 1),
            (159.0, large, None, 0),
            (159.0, large, labelled, 1),
            (159.0, large, unlabelled, 1),
            (159.0, large, unlabelled, 0),
            (159.0, large, labelled, 1),
            (161.0, large, None, 1),
            (161.0, large, unlabelled, 0),
            (220.0, large, unlabelled, 1),
            (161.0, small, None, 1),
            (161.0, small, None, 1),
        ):
            now[0] = at
            counted.clear()
            nearest(session, table, h[:1], collection_id=collection, k=3, condition=condition)
            assert len(counted) == expected, (at, collection, condition)


def test_vectors_too_long_for_an_index(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The index holds their leading part, and the whole of them decides."""
    monkeypatch.setattr(module, "EXACT_LIMIT", 100)
    monkeypatch.setattr(vectors, "MAX_INDEXED_SIZE", 24)
    ids = image_ids(1000)
    h = clustered(1000, 32, seed=0)
    queries = clustered(20, 32, seed=1)
    with database.transaction() as session:
        collection = add_images(session, ids)
        table = fill(session, ids, h)
    vectors.build_index(database.engine, table)
    with database.transaction() as session:
        before = _index_scans(session, table)
        found = nearest(session, table, queries, collection_id=collection, k=10)
    with database.transaction() as session:
        assert _index_scans(session, table) >= before + 20
    expected = cosines(queries, h)
    nearest_ten = np.argsort(-expected, axis=1)[:, :10]
    shared = [
        len({hit.image_id for hit in hits} & {ids[i] for i in row})
        for hits, row in zip(found, nearest_ten, strict=True)
    ]
    assert np.mean(shared) >= 9.8
    for hits, row in zip(found, expected, strict=True):
        np.testing.assert_allclose(
            [hit.score for hit in hits], [row[ids.index(hit.image_id)] for hit in hits], atol=1e-6
        )


def _fast_cosines(queries: NDArray[np.float32], h: NDArray[np.float32]) -> NDArray[np.float64]:
    q, v = queries.astype(np.float64), h.astype(np.float64)
    return (q / np.linalg.norm(q, axis=1, keepdims=True)) @ (v / np.linalg.norm(v, axis=1, keepdims=True)).T


def _index_scans(session: Session, table: EmbeddingTable) -> int:
    session.execute(text("select pg_stat_force_next_flush(), pg_stat_clear_snapshot()"))
    statement = "select idx_scan from pg_stat_user_indexes where indexrelname = :index"
    return int(session.execute(text(statement), {"index": f"{vectors.table_name(table)}_hnsw"}).scalar_one())
