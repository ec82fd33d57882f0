"""Nearest neighbours by comparing with every vector.

Legend: Q queries, D size of a vector, N vectors.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import text
from sqlalchemy.orm import Session

from service.core.members import Members
from service.core.tables import EmbeddingTable
from service.core.vectors import table_name, vector_of

BLOCK_VALUES = 4_000_000  # of the matrix, held at once: 16 MB


class Hit(NamedTuple):
    """A neighbour; `score` is the cosine similarity, computed in float32."""

    image_id: str
    score: float


class Source(NamedTuple):
    """Where vectors come from: what follows `from` in SQL, where `v` is a table of vectors, and its parameters."""

    sql: str
    parameters: dict[str, Any]

    @classmethod
    def of_members(cls, table: EmbeddingTable, members: Members) -> "Source":
        """The vectors of images of a collection."""
        sql = f"{table_name(table)} v join collection_image c on c.image_id = v.image_id where {members.where}"
        return cls(sql, members.parameters)

    @classmethod
    def of_few_members(cls, table: EmbeddingTable, members: Members) -> "Source":
        """The same, looked up one by one.

        PostgreSQL takes a filter of metadata to hold for 1% of all images, and to join so many it reads every vector.
        """
        sql = f"""
            collection_image c cross join lateral (
                select image_id, h from {table_name(table)} where image_id = c.image_id limit 1
            ) as v where {members.where}
        """  # noqa: S608  # the name is made from an integer, values are parameters
        return cls(sql, members.parameters)

    @classmethod
    def of_table(cls, table: EmbeddingTable) -> "Source":
        """All vectors of a table."""
        return cls(f"{table_name(table)} v where true", {})


def by_scan(session: Session, source: Source, query: NDArray[np.float32], k: int, min_score: float) -> list[Hit]:
    """The k vectors nearest to a query (D,), best first, ties in order of id; the database compares."""
    # Materialized, each distance is computed once.
    statement = f"""
        with candidate as materialized (
            select v.image_id, v.h <=> cast(:query as vector) as distance from {source.sql}
        )
        select image_id, 1 - distance as score from candidate
        where distance < 'NaN' and 1 - distance >= :min_score
        order by score desc, image_id limit :k
    """  # noqa: S608  # made above
    parameters = {**source.parameters, "query": query, "k": k, "min_score": min_score}
    return [Hit(*row) for row in session.execute(text(statement), parameters)]


def by_matrix(
    session: Session, source: Source, queries: NDArray[np.float32], k: int, min_score: float = -1.0
) -> list[list[Hit]]:
    """The k vectors nearest to each query (Q, D), best first, ties in order of id; NumPy compares, block by block."""
    found: list[list[Hit]] = [[] for _ in queries]
    for image_ids, vectors in blocks(session, source, queries.shape[1]):
        scores = cosines(queries, vectors)  # (Q, rows of the block)
        found = [_merge(hits, image_ids, row, k, min_score) for hits, row in zip(found, scores, strict=True)]
    return found


def blocks(session: Session, source: Source, size: int) -> Iterator[tuple[list[str], NDArray[np.float32]]]:
    """Ids and vectors (rows, D), of at most BLOCK_VALUES values at a time."""
    rows = session.execute(
        text(f"select v.image_id, vector_send(v.h) from {source.sql}"),  # noqa: S608  # made above
        source.parameters,
        execution_options={"yield_per": max(1, BLOCK_VALUES // size)},
    )
    for block in rows.partitions():
        yield [image_id for image_id, _ in block], np.stack([vector_of(sent) for _, sent in block])


def cosines(queries: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cosine similarities (Q, N); NaN where one of the two is zero."""
    lengths = np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(vectors, axis=1)  # (Q, N)
    with np.errstate(invalid="ignore"):
        found: NDArray[np.float32] = np.clip(queries @ vectors.T / lengths, -1, 1)
    return found


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
