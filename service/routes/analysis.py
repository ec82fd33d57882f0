"""What a collection's vectors tell of it."""

from collections.abc import Sequence

from fastapi import APIRouter
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.collections import find_collection
from service.core.duplicates import duplicate_groups
from service.core.tables import CollectionImage
from service.deps import SessionDep
from service.filter_query import FilterQuery
from service.image_store import LAYER
from service.schemas.analysis import DuplicateGroup, DuplicateGroups, DuplicateImage, Threshold
from service.schemas.images import CollectionPath, ImageCursor, ModelQuery
from service.schemas.page import Limit
from service.vector_tables import find_vectors

router = APIRouter(prefix="/v1/collections/{collection}", tags=["images"])


@router.get("/duplicates")
def list_duplicates(
    collection: CollectionPath,
    session: SessionDep,
    threshold: Threshold = 0.95,
    model: ModelQuery = None,
    condition: FilterQuery = None,
    cursor: ImageCursor = None,
    limit: Limit = 50,
) -> DuplicateGroups:
    """Groups of near-duplicates: images that are as similar as the threshold, directly or through others.

    Exact among up to 20,000 images; beyond, as far as the index finds them. A page takes seconds, and goes over the
    next 2,048 images: follow `next` until it is null.
    """
    collection_id = find_collection(session, collection).id
    table = find_vectors(session, model, LAYER)
    page = duplicate_groups(
        session,
        table,
        collection_id,
        threshold=threshold,
        condition=condition,
        after=cursor or "",
        limit=limit,
    )
    items = _describe_groups(session, collection_id, page.groups)
    return DuplicateGroups(model=table.model_id, items=items, next=page.next)


def _describe_groups(session: Session, collection_id: str, groups: Sequence[Sequence[str]]) -> list[DuplicateGroup]:
    ids = [image_id for group in groups for image_id in group]
    said = select(CollectionImage.image_id, CollectionImage.label, CollectionImage.filename).where(
        CollectionImage.collection_id == collection_id, CollectionImage.image_id == func.any(ids)
    )
    images = {row.image_id: row for row in session.execute(said)}
    return [
        DuplicateGroup(
            images=[
                DuplicateImage(id=image_id, label=images[image_id].label, filename=images[image_id].filename)
                for image_id in group
                if image_id in images  # it may have left meanwhile
            ]
        )
        for group in groups
    ]
