"""Named sets of images. A collection is named by its id or its name wherever one is asked for."""

import re
from collections.abc import Sequence

from sqlalchemy import delete, exists, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from service.core.db import tenant_of
from service.core.errors import Conflict, Invalid, NotFound
from service.core.ids import ID_PATTERN, new_id
from service.core.maps import forget_maps_of_collection
from service.core.tables import Collection, CollectionImage, Image

DEFAULT = "default"


def find_collection(session: Session, key: str) -> Collection:
    """The collection with an id or name. Raises NotFound."""
    statement = select(Collection).where((Collection.id == key) | (Collection.name == key))
    found = session.scalars(statement).one_or_none()
    if found is None:
        raise NotFound(f"there is no collection {key}; POST /v1/images with that name makes it")
    return found


def ensure_collection(session: Session, key: str) -> Collection:
    """The collection with an id or name, made if it is a new name; not deleted before the transaction ends."""
    if not re.match(ID_PATTERN, key):
        new = insert(Collection).values(tenant=tenant_of(session), id=new_id("col"), name=key)
        session.execute(new.on_conflict_do_nothing())
    # A row lock that inserting members takes anyway; two uploads don't wait for each other.
    held = (
        select(Collection)
        .where((Collection.id == key) | (Collection.name == key))
        .with_for_update(read=True, key_share=True)
    )
    found = session.scalars(held).one_or_none()
    if found is None:
        raise NotFound(f"there is no collection {key}")
    return found


def create_collection(session: Session, name: str) -> Collection:
    """A new collection. Raises Conflict if the name is taken, Invalid if it looks like an id."""
    if re.match(ID_PATTERN, name):
        raise Invalid(
            "name: one that can't be taken for an id", errors=[{"field": "name", "message": "looks like an id"}]
        )
    new = insert(Collection).values(tenant=tenant_of(session), id=new_id("col"), name=name)
    created = session.scalars(new.on_conflict_do_nothing().returning(Collection)).one_or_none()
    if created is None:
        raise Conflict(f"there is a collection {name} already", code="name_taken")
    return created


def count_images(session: Session, collection_ids: list[str]) -> dict[str, int]:
    """The number of images in each collection that has any."""
    statement = select(CollectionImage.collection_id, func.count()).where(
        CollectionImage.collection_id.in_(collection_ids)
    )
    return {row[0]: row[1] for row in session.execute(statement.group_by(CollectionImage.collection_id))}


def count_labels(session: Session, collection_id: str, *, after: str | None, limit: int) -> dict[str, int]:
    """The number of images of each label of a collection, in order of the label, at most `limit` after `after`."""
    label = CollectionImage.label
    statement = select(label, func.count()).where(CollectionImage.collection_id == collection_id, label.is_not(None))
    if after is not None:
        statement = statement.where(label > after)
    rows = session.execute(statement.group_by(label).order_by(label).limit(limit))
    return {row.label: row[1] for row in rows}


def delete_collection(session: Session, key: str) -> list[str]:
    """Delete a collection with the images that are in no other; the keys of their blobs, to delete after the commit."""
    collection = find_collection(session, key)
    session.refresh(collection, with_for_update=True)  # uploads into it end first
    members = select(CollectionImage.image_id).where(CollectionImage.collection_id == collection.id)
    image_ids = lock_images(session, session.scalars(members).all())
    session.delete(collection)
    session.flush()
    return delete_orphans(session, image_ids) + forget_maps_of_collection(session, collection.id)


def lock_images(session: Session, image_ids: Sequence[str]) -> list[str]:
    """Those of the images that are stored, locked before they are looked at.

    An upload that adds one of them to a collection at this moment comes before, or makes it anew.
    """
    held = select(Image.id).where(Image.id == func.any(list(image_ids))).order_by(Image.id).with_for_update()
    return list(session.scalars(held))


def delete_orphans(session: Session, image_ids: Sequence[str]) -> list[str]:
    """Delete those of the locked images that are in no collection; the keys of their blobs."""
    elsewhere = exists().where(CollectionImage.image_id == Image.id)
    orphans = delete(Image).where(Image.id == func.any(list(image_ids)), ~elsewhere).returning(Image.key)
    return list(session.scalars(orphans.execution_options(synchronize_session=False)))
