"""Which images a collection has, and what it says of each."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, aliased

from service.collections import delete_orphans, ensure_collection, find_collection, lock_images
from service.core.db import tenant_of
from service.core.errors import Invalid, NotFound
from service.core.filters import Condition
from service.core.members import Members, members_of
from service.core.tables import CollectionImage, Image

MAX_KEYS = 64  # of an image's metadata


def list_members(
    session: Session, collection_id: str, condition: Condition | None, *, after: str, limit: int
) -> list[tuple[Image, CollectionImage]]:
    """The first images after the id `after` that the condition holds for, in order of id."""
    member = aliased(CollectionImage, name="c")
    statement = (
        select(Image, member)
        .join(member, member.image_id == Image.id)
        .where(_holds(collection_id, condition), member.image_id > after)
        .order_by(member.image_id)
        .limit(limit)
    )
    return [(image, member) for image, member in session.execute(statement)]


def _holds(collection_id: str, condition: Condition | None) -> ColumnElement[bool]:
    """A condition on `collection_image c` as a part of an ORM statement."""
    members = members_of(collection_id, condition)
    return text(members.where).bindparams(**members.parameters)  # type: ignore[return-value]  # stands for one


def put_member(
    session: Session, key: str, image_id: str, *, label: str | None, metadata: Mapping[str, Any]
) -> CollectionImage:
    """Have a stored image in a collection with just this label and metadata. Raises NotFound."""
    collection_id = ensure_collection(session, key).id
    held = select(Image.id).where(Image.id == image_id).with_for_update(read=True, key_share=True)
    if session.scalar(held) is None:
        raise NotFound(f"there is no image {image_id}")
    said = {"label": label, "metadata_": dict(metadata)}
    named = {"tenant": tenant_of(session), "collection_id": collection_id, "image_id": image_id}
    statement = insert(CollectionImage).values(**named, **said)
    upsert = statement.on_conflict_do_update(
        index_elements=["collection_id", "image_id"], set_={"label": label, "metadata": dict(metadata)}
    )
    session.execute(upsert)
    return session.get_one(CollectionImage, (collection_id, image_id), populate_existing=True)


def change_member(session: Session, key: str, image_id: str, change: Mapping[str, Any]) -> CollectionImage:
    """Set an image's label if `change` has one, merge its `metadata`, and take the keys `unset` away.

    Raises NotFound, or Invalid for more than MAX_KEYS keys afterwards.
    """
    member = session.get(CollectionImage, (find_collection(session, key).id, image_id), with_for_update=True)
    if member is None:
        raise NotFound(f"the collection {key} has no image {image_id}")
    if "label" in change:
        member.label = change["label"]
    kept = {name: value for name, value in member.metadata_.items() if name not in change.get("unset", ())}
    member.metadata_ = {**kept, **change.get("metadata", {})}
    if len(member.metadata_) > MAX_KEYS:
        message = f"at most {MAX_KEYS} keys, not {len(member.metadata_)}"
        raise Invalid(f"metadata: {message}", errors=[{"field": "metadata", "message": message}])
    session.flush()
    return member


def remove_members(session: Session, key: str, condition: Condition) -> tuple[int, list[str]]:
    """Take the images that the condition holds for out of a collection, and delete those that are in no other.

    The number of images, and the keys of the blobs to delete after the commit.
    """
    members = members_of(find_collection(session, key).id, condition)
    found = session.scalars(text(f"select image_id from collection_image c where {members.where}"), members.parameters)  # noqa: S608  # its values are parameters
    return _remove(session, lock_images(session, list(found)), members)


def remove_member(session: Session, key: str, image_id: str) -> list[str]:
    """Take an image out of a collection, and delete it if it is in no other; the keys of blobs, as above."""
    members = members_of(find_collection(session, key).id)
    num_removed, keys = _remove(session, lock_images(session, [image_id]), members)
    if not num_removed:
        raise NotFound(f"the collection {key} has no image {image_id}")
    return keys


def _remove(session: Session, image_ids: list[str], members: Members) -> tuple[int, list[str]]:
    statement = f"delete from collection_image c where {members.where} and c.image_id = any(:ids) returning c.image_id"  # noqa: S608  # its values are parameters
    gone = list(session.scalars(text(statement), {**members.parameters, "ids": image_ids}))
    return len(gone), delete_orphans(session, gone)
