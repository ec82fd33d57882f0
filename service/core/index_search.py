"""Nearest neighbours by a table's HNSW index.

The index holds half precision, and of vectors beyond MAX_INDEXED_SIZE values their leading part; what it proposes is
ranked again by the whole vectors in float32.

It tells the vectors from near to far, without an end, and a filter passes over those that it doesn't hold for. Where it
holds for few of those that are near, that takes too long, and the answer is to be found exactly. pgvector's own limits
(hnsw.max_scan_tuples and the memory of a scan) are out of reach here: when it meets one it goes on with whatever it
has seen, as if that were near.
"""

import math

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import text
from sqlalchemy.orm import Session

from service.core.exact_search import Hit
from service.core.members import Members
from service.core.tables import EmbeddingTable
from service.core.vectors import indexed_expression, is_indexed_whole, table_name

MIN_CANDIDATES = 40
# A filter that goes with the vectors leaves out what is near, and the farther vectors are, the less exact is the order
# in which an index tells them: so with a filter more are looked at. Twice the width costs next to nothing.
FILTERED_CANDIDATES, FILTERED_WIDTH = 150, 2
MAX_EF_SEARCH = 1000  # pgvector's own limit
UNMEASURED_EF_SEARCH = 200  # of a table whose recall nobody measured yet
MAX_TOLD = 5000  # vectors that the index tells before a search by it is given up


def prepare(session: Session, ef_search: int) -> None:
    """Settings until the transaction ends. Without sorts, the planner always takes the order from the index."""
    statement = """
        select set_config('hnsw.ef_search', :ef_search, true), set_config('enable_sort', 'off', true),
        set_config('hnsw.iterative_scan', 'relaxed_order', true),
        set_config('hnsw.max_scan_tuples', '2147483647', true), set_config('hnsw.scan_mem_multiplier', '32', true)
    """
    session.execute(text(statement), {"ef_search": str(ef_search)})


def ef_search_for(table: EmbeddingTable, k: int, *, is_filtered: bool) -> int:
    """How many candidates the index keeps while it searches: as measured for 10 neighbours, more for many."""
    width = (table.ef_search or UNMEASURED_EF_SEARCH) * (FILTERED_WIDTH if is_filtered else 1)
    return min(MAX_EF_SEARCH, max(width, 2 * k))


def by_index(
    session: Session,
    table: EmbeddingTable,
    members: Members | None,
    query: NDArray[np.float32],
    k: int,
    ef_search: int,
    *,
    at_least: int = MIN_CANDIDATES,
) -> list[Hit] | None:
    """About the k vectors nearest to a query (D,), of members or of the whole table, best first.

    Of at least so many that the index proposes. None if the index was given up. Call `prepare` before.
    """
    num_candidates = max(at_least if is_indexed_whole(table) else ef_search, 2 * k)
    # The lateral join asks for one vector after the other, in the order of the index, until there are enough.
    is_member = (
        f"""
        cross join lateral (
            select from collection_image c where c.image_id = v.image_id and {members.where} limit 1
        ) as member
    """
        if members
        else ""
    )  # its values are parameters
    statement = f"""
        select v.image_id, v.h <=> cast(:query as vector) from (
            select image_id, h from {table_name(table)}
            order by {indexed_expression(table)} <=> {indexed_expression(table, "cast(:query as vector)")}
            limit {MAX_TOLD + num_candidates:d}
        ) as v {is_member} limit {num_candidates:d}
    """  # noqa: S608  # made from numbers
    rows = session.execute(text(statement), {"query": query} | (members.parameters if members else {})).all()
    if len(rows) < num_candidates and members:
        return None
    hits = [Hit(image_id, 1 - distance) for image_id, distance in rows if not math.isnan(distance)]
    return sorted(hits, key=lambda hit: (-hit.score, hit.image_id))[:k]
