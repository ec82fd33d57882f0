"""What a collection says of its images, and which it has."""

from fastapi import APIRouter, Response

from service import membership
from service.core.keys import WRITE
from service.deps import DatabaseDep, SessionDep, StorageDep
from service.filter_query import RequiredFilterQuery
from service.refusals import may
from service.schemas.images import (
    CollectionPath,
    ImageId,
    MemberBody,
    MemberChange,
    Membership,
    Removed,
    show_membership,
)
from service.scopes import requires

router = APIRouter(prefix="/v1/collections/{collection}/images", tags=["images"])


@router.put("/{image_id}", responses=may(404))
@requires(WRITE)
def put_collection_image(
    collection: CollectionPath, image_id: ImageId, body: MemberBody, session: SessionDep
) -> Membership:
    """Have a stored image in a collection, with just this label and metadata. A new collection's name makes it."""
    member = membership.put_member(session, collection, image_id, label=body.label, metadata=body.metadata)
    return show_membership(member)


@router.patch("/{image_id}", responses=may(404))
@requires(WRITE)
def change_collection_image(
    collection: CollectionPath, image_id: ImageId, change: MemberChange, session: SessionDep
) -> Membership:
    """Change the label or some metadata of an image in a collection."""
    given = change.model_dump(exclude_unset=True)
    return show_membership(membership.change_member(session, collection, image_id, given))


@router.delete("/{image_id}", status_code=204, response_class=Response, responses=may(404))
@requires(WRITE)
def remove_collection_image(
    collection: CollectionPath, image_id: ImageId, database: DatabaseDep, storage: StorageDep
) -> None:
    """Take an image out of a collection; one that is in no other is deleted."""
    with database.transaction() as session:
        keys = membership.remove_member(session, collection, image_id)
    for key in keys:  # after the commit: a row never names a blob that is gone
        storage.delete(key)


@router.delete("", responses=may(404))
@requires(WRITE)
def remove_collection_images(
    collection: CollectionPath,
    database: DatabaseDep,
    storage: StorageDep,
    condition: RequiredFilterQuery,
) -> Removed:
    """Take all images that a filter holds for out of a collection; those that are in no other are deleted."""
    with database.transaction() as session:
        num_removed, keys = membership.remove_members(session, collection, condition)
    for key in keys:
        storage.delete(key)
    return Removed(num_removed=num_removed)
