"""Hits as the API shows them: with what the collection says of each image, and in groups."""

from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.core.exact_search import Hit
from service.core.tables import CollectionImage
from service.schemas.search import Group, Neighbor


def describe(session: Session, collection_id: str, found: Sequence[Sequence[Hit]]) -> list[list[Neighbor]]:
    """Each search's hits; an image that has left the collection meanwhile is left out."""
    ids = list({hit.image_id for hits in found for hit in hits})
    statement = select(CollectionImage).where(
        CollectionImage.collection_id == collection_id, CollectionImage.image_id == func.any(ids)
    )
    members = {member.image_id: member for member in session.scalars(statement)}
    return [[_neighbor(hit, members[hit.image_id]) for hit in hits if hit.image_id in members] for hits in found]


def _neighbor(hit: Hit, member: CollectionImage) -> Neighbor:
    return Neighbor(
        id=hit.image_id,
        score=hit.score,
        label=member.label,
        metadata=member.metadata_,
        filename=member.filename,
    )


def by_label(neighbors: Sequence[Neighbor], num_groups: int, group_size: int) -> list[Group]:
    """The first labels among the neighbours, best first, each with its first images."""
    groups: dict[str | None, Group] = {}
    for neighbor in neighbors:
        if neighbor.label not in groups and len(groups) == num_groups:
            continue
        group = groups.setdefault(neighbor.label, Group(label=neighbor.label, items=[]))
        if len(group.items) < group_size:
            group.items.append(neighbor)
    return list(groups.values())
