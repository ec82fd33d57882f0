"""Nearest neighbours by cosine similarity among the stored vectors of a collection.

Legend: Q queries, D size of a vector, N vectors of the collection.

Among up to EXACT_LIMIT images, or without an index, the answer is exact. Beyond, an HNSW index over half precision
proposes candidates, and float32 decides among them. The images are those that a filter holds for: counting them first
tells the two cases apart, and a filter that goes with the vectors, which an index answers badly, costs a scan at most.
A vector of zeros has no direction: it is never found.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import text
from sqlalchemy.orm import Session

from service.core.filters import Condition
from service.core.members import Members, count_members, members_of
from service.core.tables import EmbeddingTable
from service.core.vectors import EXACT_LIMIT, has_index, indexed_expression, table_name, vector_of

MIN_CANDIDATES = 40
MIN_EF_SEARCH, MAX_EF_SEARCH = 200, 1000  # at 100, clustered vectors gave a recall of 0.976, at 200 of 0.998
MATRIX_QUERIES = 8  # from here on, one product with the whole matrix beats a scan a query
BLOCK_VALUES = 4_000_000  # of the matrix, held at once: 16 MB


class Hit(NamedTuple):
    """A neighbour; `score` is the cosine similarity, computed in float32."""

    image_id: str
    score: float


def nearest(
    session: Session,
    table: EmbeddingTable,
    queries: NDArray[np.float32],
    *,
    collection_id: str,
    k: int,
    condition: Condition | None = None,
    min_score: float = -1.0,
    exact: bool = False,
) -> list[list[Hit]]:
    """For each query (Q, D), the k images nearest to it, best first, ties in order of id.

    They are of the collection, and such that the condition holds. Exact for up to EXACT_LIMIT of these, when `exact`,
    and for a table without index. By the index, recall@10 was 1.00 on
    30,000 features of 16 latent dimensions, and 0.74 on noise of 128 dimensions, where no neighbour is near.
    """
    members = members_of(collection_id, condition)
    if not exact and count_members(session, members, EXACT_LIMIT + 1) > EXACT_LIMIT and has_index(session, table):
        _prepare_index_scan(session, k)
        return [_by_index(session, table, query, members, k, min_score) for query in queries]
    if len(queries) >= MATRIX_QUERIES:
        return _by_matrix(session, table, queries, members, k, min_score)
    return [_by_scan(session, table, query, members, k, min_score) for query in queries]


def _prepare_index_scan(session: Session, k: int) -> None:
    """Settings until the transaction ends. Without sorts, the planner always takes the order from the index."""
    settings = {
        "hnsw.ef_search": str(min(MAX_EF_SEARCH, max(MIN_EF_SEARCH, 2 * k))),
        "hnsw.iterative_scan": "relaxed_order",  # goes on past images of other collections
        "hnsw.max_scan_tuples": "40000",
        "enable_sort": "off",
    }
    for name, value in settings.items():
        session.execute(text("select set_config(:name, :value, true)"), {"name": name, "value": value})


def _by_index(
    session: Session, table: EmbeddingTable, query: NDArray[np.float32], members: Members, k: int, min_score: float
) -> list[Hit]:
    candidates = f"""
        select v.image_id, v.h <=> cast(:query as vector) as distance
        from {table_name(table)} v join collection_image c on c.image_id = v.image_id
        where {members.where}
        order by {indexed_expression(table, "v.h")} <=> {indexed_expression(table, "cast(:query as vector)")}
        limit greatest(:min_candidates, 2 * :k)
    """  # noqa: S608  # the name and the size are integers
    return _best(session, candidates, query, members, k, min_score)


def _by_scan(
    session: Session, table: EmbeddingTable, query: NDArray[np.float32], members: Members, k: int, min_score: float
) -> list[Hit]:
    candidates = f"""
        select v.image_id, v.h <=> cast(:query as vector) as distance
        from {table_name(table)} v join collection_image c on c.image_id = v.image_id
        where {members.where}
    """  # noqa: S608  # the name is made from an integer
    return _best(session, candidates, query, members, k, min_score)


def _best(
    session: Session, candidates: str, query: NDArray[np.float32], members: Members, k: int, min_score: float
) -> list[Hit]:
    """The k best of the rows (image_id, distance) that a query gives; materialized, each distance is computed once."""
    statement = f"""
        with candidate as materialized ({candidates})
        select image_id, 1 - distance as score from candidate
        where distance < 'NaN' and 1 - distance >= :min_score
        order by score desc, image_id limit :k
    """  # noqa: S608  # from the two functions above
    parameters = {
        **members.parameters,
        "query": query,
        "k": k,
        "min_score": min_score,
        "min_candidates": MIN_CANDIDATES,
    }
    return [Hit(*row) for row in session.execute(text(statement), parameters)]


def _by_matrix(
    session: Session, table: EmbeddingTable, queries: NDArray[np.float32], members: Members, k: int, min_score: float
) -> list[list[Hit]]:
    statement = f"""
        select v.image_id, vector_send(v.h)
        from {table_name(table)} v join collection_image c on c.image_id = v.image_id
        where {members.where}
    """  # noqa: S608  # the name is made from an integer
    rows = session.execute(
        text(statement),
        members.parameters,
        execution_options={"yield_per": max(1, BLOCK_VALUES // table.size)},
    )
    best: list[list[Hit]] = [[] for _ in queries]
    for block in rows.partitions():
        image_ids = [image_id for image_id, _ in block]
        vectors = np.stack([vector_of(sent) for _, sent in block])
        scores = _cosines(queries, vectors)  # (Q, rows of the block)
        best = [_merge(hits, image_ids, row, k, min_score) for hits, row in zip(best, scores, strict=True)]
    return best


def _cosines(queries: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cosine similarities (Q, N); NaN where one of the two is zero."""
    lengths = np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(vectors, axis=1)  # (Q, N)
    with np.errstate(invalid="ignore"):
        cosines: NDArray[np.float32] = np.clip(queries @ vectors.T / lengths, -1, 1)
    return cosines


def _merge(
    hits: list[Hit], image_ids: Sequence[str], scores: NDArray[np.float32], k: int, min_score: float
) -> list[Hit]:
    """The k best of `hits` and of a block; all that tie with the block's k-th compete."""
    eligible = np.flatnonzero(scores >= min_score)  # a NaN is not
    if len(eligible) > k:
        kth = np.partition(scores[eligible], -k)[-k]
        eligible = eligible[scores[eligible] >= kth]
    found = [Hit(image_ids[i], float(scores[i])) for i in eligible.tolist()]
    return sorted(hits + found, key=lambda hit: (-hit.score, hit.image_id))[:k]
