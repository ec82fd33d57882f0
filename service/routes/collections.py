"""Collections: named sets of images to search in."""

from fastapi import APIRouter, Response
from sqlalchemy import select

from service import collections
from service.core.keys import READ, WRITE
from service.core.tables import Collection
from service.deps import DatabaseDep, SessionDep, StorageDep
from service.refusals import may
from service.schemas.images import (
    CollectionOut,
    CollectionPath,
    LabelCount,
    LabelCursor,
    NewCollection,
    show_collection,
)
from service.schemas.links import created, links_to, listed
from service.schemas.page import IdCursor, Limit, Page, read_rows
from service.scopes import requires

router = APIRouter(prefix="/v1/collections", tags=["images"])

OF_ONE = ("get_collection", "list_labels", "list_images", "get_map", "export_collection", "delete_collection")


@router.post("", status_code=201, responses={**created(201, links_to("collection", *OF_ONE)), **may(409)})
@requires(WRITE)
def create_collection(new: NewCollection, response: Response, session: SessionDep) -> CollectionOut:
    """Make an empty collection. Uploading images with a new collection's name makes it too."""
    collection = collections.create_collection(session, new.name)
    response.headers["Location"] = f"/v1/collections/{collection.id}"
    return show_collection(collection, 0)


@router.get("", responses=listed("collection", *OF_ONE))
@requires(READ)
def list_collections(session: SessionDep, cursor: IdCursor = None, limit: Limit = 50) -> Page[CollectionOut]:
    """All collections, newest first."""
    rows, following = read_rows(session, select(Collection), Collection.id, cursor=cursor, limit=limit)
    counts = collections.count_images(session, [collection.id for collection in rows])
    return Page[CollectionOut](
        items=[show_collection(collection, counts.get(collection.id, 0)) for collection in rows], next=following
    )


@router.get("/{collection}", responses=may(404))
@requires(READ)
def get_collection(collection: CollectionPath, session: SessionDep) -> CollectionOut:
    """A collection and the number of its images."""
    found = collections.find_collection(session, collection)
    return show_collection(found, collections.count_images(session, [found.id]).get(found.id, 0))


@router.get("/{collection}/labels", responses=may(404))
@requires(READ)
def list_labels(
    collection: CollectionPath, session: SessionDep, cursor: LabelCursor = None, limit: Limit = 50
) -> Page[LabelCount]:
    """The labels of a collection's images and how many images have each, in order of the label."""
    found = collections.find_collection(session, collection)
    counts = collections.count_labels(session, found.id, after=cursor, limit=limit + 1)
    items = [LabelCount(label=label, num_images=number) for label, number in counts.items()]
    return Page[LabelCount](items=items[:limit], next=items[limit - 1].label if len(items) > limit else None)


@router.delete("/{collection}", status_code=204, response_class=Response, responses=may(404))
@requires(WRITE)
def delete_collection(collection: CollectionPath, database: DatabaseDep, storage: StorageDep) -> None:
    """Delete a collection, with the images that are in no other one."""
    with database.transaction() as session:
        keys = collections.delete_collection(session, collection)
    for key in keys:  # after the commit: a row never names a blob that is gone
        storage.delete(key)
