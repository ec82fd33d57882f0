"""Near-duplicates: groups of images that are linked, directly or through others, by cosines of at least a threshold.

A page goes over the next SCAN_IMAGES images in order of id, and has the groups whose smallest id is among them. So work
and memory are bounded, and every group is on one page, whole. The links are found exactly among up to EXACT_LIMIT
images. Beyond, the index tells each image's MAX_NEIGHBORS nearest, and what it misses isn't linked.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from sqlalchemy import text
from sqlalchemy.orm import Session

from service.core.errors import Invalid
from service.core.exact_search import Source, blocks, cosines
from service.core.filters import Condition
from service.core.index_search import by_index, ef_search_for, prepare
from service.core.members import Members, count_members, members_of
from service.core.tables import EmbeddingTable
from service.core.vectors import EXACT_LIMIT, has_index, stored_vectors

SCAN_IMAGES = 2048
MAX_NEIGHBORS = 100
MAX_LINKS = 1_000_000  # of a page
CHUNK_VALUES = 8_000_000  # of the vectors that are compared at once: 32 MB

Links = dict[str, list[str]]


class DuplicatePage(NamedTuple):
    """Groups, each in order of id, and the id after which the next page begins."""

    groups: list[list[str]]
    next: str | None


def duplicate_groups(
    session: Session,
    table: EmbeddingTable,
    collection_id: str,
    *,
    threshold: float,
    condition: Condition | None = None,
    after: str = "",
    limit: int,
) -> DuplicatePage:
    """At most `limit` groups of two and more images of which the smallest id is greater than `after`.

    Raises Invalid where the threshold is so low that nearly all is linked with all.
    """
    members = members_of(collection_id, condition)
    scanned = _next_images(session, table, members, after)
    links: Links = {}
    frontier = scanned
    while frontier:
        links.update(_links(session, table, members, frontier, threshold))
        if sum(map(len, links.values())) > MAX_LINKS:
            message = f"over {MAX_LINKS:,} pairs are at least as similar as {threshold:g}; a greater one is needed"
            raise Invalid(
                f"threshold: {message}",
                code="too_many_duplicates",
                errors=[{"field": "threshold", "message": message}],
            )
        frontier = sorted({other for others in links.values() for other in others} - links.keys())
    last = scanned[-1] if scanned else ""
    groups = [group for group in connected(links) if len(group) > 1 and after < group[0] <= last]
    if len(groups) > limit:
        return DuplicatePage(groups[:limit], groups[limit - 1][0])
    return DuplicatePage(groups, last if len(scanned) == SCAN_IMAGES else None)


def connected(links: Links) -> list[list[str]]:
    """The connected components, each in order, in order of their first ids."""
    parent = {id_: id_ for id_ in links}

    def root(id_: str) -> str:
        while parent[id_] != id_:
            parent[id_] = id_ = parent[parent[id_]]
        return id_

    for id_, others in links.items():
        for other in others:
            a, b = root(id_), root(other)
            parent[max(a, b)] = min(a, b)
    groups: dict[str, list[str]] = {}
    for id_ in sorted(links):
        groups.setdefault(root(id_), []).append(id_)
    return list(groups.values())


def _next_images(session: Session, table: EmbeddingTable, members: Members, after: str) -> list[str]:
    source = Source.of_members(table, members)
    statement = f"select v.image_id from {source.sql} and v.image_id > :after order by v.image_id limit {SCAN_IMAGES:d}"  # noqa: S608  # its values are parameters
    return list(session.scalars(text(statement), {**source.parameters, "after": after}))


def _links(
    session: Session, table: EmbeddingTable, members: Members, image_ids: Sequence[str], threshold: float
) -> Links:
    """What each of the images is linked with, itself left out."""
    is_large = count_members(session, members, EXACT_LIMIT + 1) > EXACT_LIMIT and has_index(session, table)
    find = _links_by_index if is_large else _exact_links
    size = max(1, CHUNK_VALUES // table.size)
    links: Links = {}
    for start in range(0, len(image_ids), size):
        links.update(find(session, table, members, image_ids[start : start + size], threshold))
    return links


def _exact_links(
    session: Session, table: EmbeddingTable, members: Members, image_ids: Sequence[str], threshold: float
) -> Links:
    stored = stored_vectors(session, table, image_ids)
    queries = np.stack([stored[image_id] for image_id in image_ids])
    links: Links = {image_id: [] for image_id in image_ids}
    for others, vectors in blocks(session, Source.of_members(table, members), table.size):
        rows, columns = np.nonzero(cosines(queries, vectors) >= threshold)  # a NaN is not
        _add(links, ((image_ids[i], others[j]) for i, j in zip(rows.tolist(), columns.tolist(), strict=True)))
    return links


def _links_by_index(
    session: Session, table: EmbeddingTable, members: Members, image_ids: Sequence[str], threshold: float
) -> Links:
    stored = stored_vectors(session, table, image_ids)
    ef_search = ef_search_for(table, MAX_NEIGHBORS, is_filtered=False)
    prepare(session, ef_search)
    links: Links = {image_id: [] for image_id in image_ids}
    for image_id in image_ids:
        hits = by_index(session, table, members, stored[image_id], MAX_NEIGHBORS, ef_search) or []
        _add(links, ((image_id, hit.image_id) for hit in hits if hit.score >= threshold))
    return links


def _add(links: Links, pairs: Iterable[tuple[str, str]]) -> None:
    for image_id, other in pairs:
        if other != image_id:
            links[image_id].append(other)
