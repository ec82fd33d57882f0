"""The measured recall of an index, against NumPy."""

from typing import Any

import numpy as np
import pytest

from service.core import index_search, recall, vectors
from service.core.db import Database
from service.core.exact_search import Hit
from service.core.index_search import by_index
from service.core.tables import EmbeddingTable
from tests.service.core.stored_images import add_images, image_ids, model_of_size

IDS = image_ids(1500)
H = np.random.default_rng(0).standard_normal((1500, 16)).astype(np.float32)


@pytest.fixture
def table(database: Database) -> EmbeddingTable:
    """A table with its index."""
    with database.transaction() as session:
        add_images(session, IDS)
        table = vectors.ensure_table(session, model_of_size(session, 16), "h")
        vectors.insert_vectors(session, table, IDS, H)
    vectors.build_index(database.engine, table)
    return table


def nearsighted(*arguments: Any) -> list[Hit]:
    """The index, but at a width below 300 it misses each image whose id ends with an even digit."""
    *_, ef_search = arguments
    return [hit for hit in by_index(*arguments) or [] if ef_search >= 300 or int(hit.image_id[-1], 16) % 2]


def counted_by_numpy() -> float:
    """The share of the 10 nearest of each of the first 200 images that it finds then."""
    unit = H / np.linalg.norm(H, axis=1, keepdims=True)
    num_found = 0
    for i in np.argsort(IDS)[:200]:
        order = [j for j in np.argsort(-(unit @ unit[i])) if j != i][:10]
        num_found += sum(int(IDS[j][-1], 16) % 2 for j in order)
    return num_found / 2000


def test_the_search_widens_until_enough_is_found(
    database: Database, table: EmbeddingTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The least width that finds the target is stored with its recall, which NumPy counts as well; else the widest."""
    monkeypatch.setattr(recall, "by_index", nearsighted)
    narrow = counted_by_numpy()
    assert 0.4 < narrow < 0.6
    for target, widths, expected in (
        (narrow - 0.01, (100, 300), (100, narrow)),
        (narrow + 0.01, (100, 300), (300, 1.0)),
        (narrow + 0.01, (100, 200), (200, narrow)),
    ):
        monkeypatch.setattr(recall, "WIDTHS", widths)
        monkeypatch.setattr(recall, "TARGET", target)
        measured = recall.measure(database, table)
        assert measured.ef_search == expected[0]
        assert measured.recall == pytest.approx(expected[1])
        with database.transaction() as session:
            row = session.get_one(EmbeddingTable, table.number)
            assert (row.ef_search, row.recall, row.num_measured) == (*measured, 1500)
            assert index_search.ef_search_for(row, 10, is_filtered=False) == measured.ef_search


def test_an_index_is_measured_once_until_it_has_grown(database: Database, table: EmbeddingTable) -> None:
    """Without index there is nothing to measure; with one it is measured, and again when the table is much larger."""

    def needs_measuring() -> bool:
        with database.transaction() as session:
            session.connection().exec_driver_sql("analyze")
            return recall.needs_measuring(session, session.get_one(EmbeddingTable, table.number))

    def note(num_measured: int) -> None:
        with database.transaction() as session:
            session.get_one(EmbeddingTable, table.number).num_measured = num_measured

    assert needs_measuring()
    note(1001)
    assert not needs_measuring()
    note(999)
    assert needs_measuring()
    with database.transaction() as session:
        session.connection().exec_driver_sql(f"drop index {vectors.table_name(table)}_hnsw")
    assert not needs_measuring()
