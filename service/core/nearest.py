"""Nearest neighbours by cosine similarity among the stored vectors of a collection.

Among up to EXACT_LIMIT images, or without an index, the answer is exact. Beyond, an HNSW index proposes candidates. The
images are those that a filter holds for: counting them first tells the two cases apart, and a filter that goes with the
vectors, which an index answers badly, costs a scan at most. A vector of zeros has no direction: it is never found.
"""

from hashlib import sha256
from time import monotonic

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from service.core.exact_search import Hit, Source, by_matrix, by_scan
from service.core.filters import Condition
from service.core.index_search import FILTERED_CANDIDATES, MIN_CANDIDATES, by_index, ef_search_for, prepare
from service.core.members import Members, count_members, members_of
from service.core.tables import EmbeddingTable
from service.core.vectors import EXACT_LIMIT, has_index

KNOWN_SECONDS = 60  # for which members that were many are taken to be so: counting takes longer than the index
MAX_KNOWN = 1000  # filters
FEW = 2000  # members whose vectors are sooner looked up than found in a pass over the table
MATRIX_QUERIES = 8  # from here on, one product with the whole matrix beats a scan a query

_large_until: dict[bytes, float] = {}  # by a digest of the members: a filter may be long


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
    """For each query (Q, D), the k images of the collection nearest to it, best first, ties in order of id.

    They are such that the condition holds. Exact for up to EXACT_LIMIT of these, when `exact`, and for a table without
    index; service/core/recall.py measures what an index finds.
    """
    members = members_of(collection_id, condition)
    number = _bounded_count(session, members)
    source = (Source.of_few_members if number <= FEW else Source.of_members)(table, members)
    if not exact and number > EXACT_LIMIT and has_index(session, table):
        ef_search = ef_search_for(table, k, is_filtered=condition is not None)
        prepare(session, ef_search)
        at_least = FILTERED_CANDIDATES if condition else MIN_CANDIDATES
        found = [by_index(session, table, members, query, k, ef_search, at_least=at_least) for query in queries]
        return [
            by_scan(session, source, query, k, min_score)
            if hits is None
            else [hit for hit in hits if hit.score >= min_score]
            for query, hits in zip(queries, found, strict=True)
        ]
    if len(queries) >= MATRIX_QUERIES:
        return by_matrix(session, source, queries, k, min_score)
    return [by_scan(session, source, query, k, min_score) for query in queries]


def _bounded_count(session: Session, members: Members) -> int:
    """The number of members, EXACT_LIMIT + 1 if there are more; many are counted once a minute.

    Should they have become few since, the index gives up and a scan finds them.
    """
    key = sha256(repr(members).encode()).digest()
    if monotonic() < _large_until.get(key, 0):
        return EXACT_LIMIT + 1
    number = count_members(session, members, EXACT_LIMIT + 1)
    if number > EXACT_LIMIT:
        if len(_large_until) >= MAX_KNOWN:
            _large_until.clear()
        _large_until[key] = monotonic() + KNOWN_SECONDS
    return number
