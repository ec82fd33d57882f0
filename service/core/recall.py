"""How much of the exact answer a table's index finds, and how wide it has to search for that.

An HNSW index is built by chance and recall depends on the vectors: 10 neighbours among 30,000 features of 16 latent
dimensions were all found, of noise of 128 dimensions 0.74. So it is measured on the table itself, with vectors of its
own as queries, each left out of its own answer, and the search is widened until enough is found.
"""

from typing import NamedTuple

import numpy as np
from sqlalchemy import func, text
from sqlalchemy.orm import Session

from service.core.db import Database
from service.core.exact_search import Hit, Source, by_matrix
from service.core.index_search import MAX_EF_SEARCH, by_index, prepare
from service.core.tables import EmbeddingTable
from service.core.vectors import estimated_number, has_index, stored_vectors, table_name

NUM_SAMPLES = 200
NUM_NEIGHBORS = 10
TARGET = 0.998  # leaves room for queries that are no vectors of the table, and for a cluster that is missed whole
WIDTHS = (64, 100, 150, 200, 300, 400, 600, 800, MAX_EF_SEARCH)
GROWTH = 1.5  # a table that has grown so far is measured again


class Recall(NamedTuple):
    """What was measured: recall@10 of the index at a width of search."""

    ef_search: int
    recall: float


def needs_measuring(session: Session, table: EmbeddingTable) -> bool:
    """Whether the table has an index whose recall isn't known, or was measured when the table was much smaller."""
    if not has_index(session, table):
        return False
    return table.num_measured is None or estimated_number(session, table) > GROWTH * table.num_measured


def measure(database: Database, table: EmbeddingTable) -> Recall:
    """Find the least width of search that finds TARGET of the neighbours, or the widest there is; and store it."""
    with database.transaction() as session:
        # Ids are hashes, so the first ones are a sample by chance.
        sample = f"select image_id from {table_name(table)} order by image_id limit {NUM_SAMPLES:d}"  # noqa: S608  # made from integers
        image_ids = list(session.scalars(text(sample)))
        stored = stored_vectors(session, table, image_ids)
        queries = np.stack([stored[image_id] for image_id in image_ids])  # (Q, D)
        exact = by_matrix(session, Source.of_table(table), queries, NUM_NEIGHBORS + 1)
        expected = [_without(image_id, hits) for image_id, hits in zip(image_ids, exact, strict=True)]
        for ef_search in WIDTHS:
            found = Recall(ef_search, _recall(session, table, image_ids, queries, expected, ef_search))
            if found.recall >= TARGET:
                break
        count = session.scalar(text(f"select count(*) from {table_name(table)}"))  # noqa: S608  # made from an integer
        row = session.get_one(EmbeddingTable, table.number)
        row.ef_search, row.recall = found
        row.num_measured, row.measured_at = count, func.now()
    return found


def _without(image_id: str, hits: list[Hit]) -> set[str]:
    """The nearest neighbours of an image but itself."""
    return set([hit.image_id for hit in hits if hit.image_id != image_id][:NUM_NEIGHBORS])


def _recall(
    session: Session,
    table: EmbeddingTable,
    image_ids: list[str],
    queries: np.ndarray[tuple[int, int], np.dtype[np.float32]],
    expected: list[set[str]],
    ef_search: int,
) -> float:
    prepare(session, ef_search)
    num_found = 0
    for image_id, query, neighbors in zip(image_ids, queries, expected, strict=True):
        hits = by_index(session, table, None, query, NUM_NEIGHBORS + 1, ef_search) or []
        num_found += len(_without(image_id, hits) & neighbors)
    return num_found / max(1, sum(map(len, expected)))
