"""What a collection's vectors tell of it."""

from collections.abc import Sequence
from typing import Annotated

import pyarrow as pa
from fastapi import APIRouter, Query, Request, Response
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.arrow_stream import ARROW, stream
from service.collection_map import labels_of, only, project_now, read_newest, read_of_job
from service.collections import find_collection
from service.core.duplicates import duplicate_groups
from service.core.keys import READ
from service.core.members import count_members, members_of
from service.core.projection import MAX_POINTS
from service.core.quality import measure_quality
from service.core.tables import CollectionImage
from service.deps import SessionDep, StorageDep
from service.filter_query import FilterQuery
from service.image_store import LAYER
from service.refusals import may
from service.schemas.analysis import (
    CollectionMap,
    CollectionQuality,
    DuplicateGroup,
    DuplicateGroups,
    DuplicateImage,
    LabelQuality,
    MapPoint,
    Method,
    Threshold,
)
from service.schemas.fields import Id
from service.schemas.images import CollectionPath, ImageCursor, ModelQuery
from service.schemas.page import Limit
from service.scopes import requires
from service.vector_tables import find_vectors

router = APIRouter(prefix="/v1/collections/{collection}", tags=["images"])


@router.get("/duplicates", responses=may(404, 409))
@requires(READ)
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


@router.get("/quality", responses=may(404, 409))
@requires(READ)
def get_quality(
    collection: CollectionPath,
    session: SessionDep,
    k: Annotated[int, Query(ge=1, le=100, description="Neighbours that are compared.")] = 10,
    model: ModelQuery = None,
) -> CollectionQuality:
    """How well the vectors of a labelled collection agree with its labels: precision@k and purity."""
    collection_id = find_collection(session, collection).id
    table = find_vectors(session, model, LAYER)
    quality = measure_quality(session, table, collection_id, k)
    return CollectionQuality(
        model=table.model_id,
        k=k,
        num_labelled=quality.num_labelled,
        num_sampled=quality.num_sampled,
        precision_at_k=quality.precision,
        chance=quality.chance,
        purity=quality.purity,
        labels=[
            LabelQuality(label=label, num_sampled=number, precision_at_k=precision)
            for label, (number, precision) in quality.by_label.items()
        ],
    )


@router.get(
    "/map",
    response_model=CollectionMap,
    responses={200: {"content": {ARROW: {"schema": {"type": "string", "format": "binary"}}}}, **may(404, 409)},
)
@requires(READ)
def get_map(
    request: Request,
    collection: CollectionPath,
    session: SessionDep,
    storage: StorageDep,
    method: Annotated[
        Method, Query(description="pca is computed now; umap is what the newest job `map` left.")
    ] = "pca",
    job: Annotated[Id | None, Query(description="The map that this job left, in place of the newest.")] = None,
    model: ModelQuery = None,
    condition: FilterQuery = None,
) -> CollectionMap | Response:
    """The collection in two dimensions: ids, x, y and labels of up to 100,000 images, the same every time.

    JSON, or with `Accept: application/vnd.apache.arrow.stream` an Arrow stream. A map by UMAP is as old as its job: it
    has those of its images that are in the collection still, and `num_without_point` says how many it doesn't know.
    """
    collection_id = find_collection(session, collection).id
    members = members_of(collection_id, condition)
    if job is not None:
        laid_out = read_of_job(session, storage, collection_id, job)
    elif method == "umap":
        laid_out = read_newest(session, storage, collection_id, model, method)
    else:
        laid_out = project_now(session, model, members)
    labels = labels_of(session, members, laid_out.found.image_ids)
    found = only(laid_out.found, labels)
    shown = [labels[image_id] for image_id in found.image_ids]
    if ARROW in request.headers.get("accept", ""):
        columns = [found.image_ids, found.points[:, 0], found.points[:, 1], pa.array(shown, pa.string())]
        batch = pa.record_batch([pa.array(column) for column in columns], ["id", "x", "y", "label"])
        return Response(b"".join(stream(iter([batch]), batch.schema, ARROW)), media_type=ARROW)
    num_images = count_members(session, members, MAX_POINTS + 1)
    return CollectionMap(
        model=laid_out.model_id,
        method=laid_out.method,
        job_id=laid_out.job_id,
        projected_at=laid_out.projected_at,
        num_images=num_images,
        num_without_point=max(0, num_images - len(found.image_ids)),
        items=[
            MapPoint(id=image_id, x=x, y=y, label=label)
            for image_id, (x, y), label in zip(found.image_ids, found.points.tolist(), shown, strict=True)
        ],
    )


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
