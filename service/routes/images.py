"""Images: stored with their collection and vector, shown, and compared."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy import select
from starlette.concurrency import run_in_threadpool

from service import bodies, image_store
from service.attendance import AttendanceDep
from service.collections import DEFAULT, find_collection
from service.core.keys import READ, WRITE
from service.core.tables import CollectionImage
from service.deps import DatabaseDep, Services, ServicesDep, SessionDep, StorageDep
from service.embedding import Timings, Vector, check_layer
from service.filter_query import FilterQuery
from service.image_store import LAYER, get_image
from service.image_upload import upload_images
from service.membership import list_members
from service.model_cache import ServedModel
from service.refusals import may
from service.schemas.embeddings import Layer
from service.schemas.images import (
    CollectionQuery,
    ImageCursor,
    ImageDetails,
    ImageId,
    ImageInCollection,
    ImageOut,
    ImagesForm,
    ModelQuery,
    StoredEmbedding,
    UploadResult,
    show_member,
    show_membership,
)
from service.schemas.links import links_to
from service.schemas.page import Limit, Page
from service.schemas.search import MAX_K, Neighbors, SearchOptions
from service.scopes import requires
from service.search import Searcher, direction
from service.vector_formats import FORMATS, negotiate, stored_embedding

router = APIRouter(prefix="/v1/images", tags=["images"])

MAX_SHOWN_SIDE = 4096
LINKS = links_to(
    "image_id",
    "get_image",
    "get_image_content",
    "get_image_embedding",
    "get_image_neighbors",
    "delete_image",
    source="$response.body#/items/0/id",
)


@router.post("", responses={200: {"links": LINKS}, **may(404, 409)}, openapi_extra=bodies.document(ImagesForm))
@requires(WRITE)
async def create_images(request: Request, services: ServicesDep, response: Response) -> UploadResult:
    """Store images in a collection, and their vectors once a model is in production.

    Each file has its own result; files that fail don't affect the others. When this answers, what it calls created is
    on disk.
    """
    timings = Timings()
    async with bodies.read_form(request, ImagesForm) as form:
        result = await upload_images(services, form, timings)
    response.headers.update(timings.header())
    return result


@router.get("", responses={200: {"links": LINKS}, **may(404)})
@requires(READ)
def list_images(
    session: SessionDep,
    collection: CollectionQuery = DEFAULT,
    cursor: ImageCursor = None,
    limit: Limit = 50,
    condition: FilterQuery = None,
) -> Page[ImageInCollection]:
    """The images of a collection, in order of id."""
    collection_id = find_collection(session, collection).id
    rows = list_members(session, collection_id, condition, after=cursor or "", limit=limit + 1)
    items = [show_member(image, member) for image, member in rows[:limit]]
    return Page[ImageInCollection](items=items, next=items[-1].id if len(rows) > limit else None)


@router.get("/{image_id}", name="get_image", responses=may(404))
@requires(READ)
def show_image(image_id: ImageId, session: SessionDep) -> ImageDetails:
    """An image, and what its collections say of it."""
    image = get_image(session, image_id)
    statement = select(CollectionImage).where(CollectionImage.image_id == image_id)
    members = session.scalars(statement.order_by(CollectionImage.collection_id))
    shown = ImageOut.model_validate(image).model_dump()
    return ImageDetails(**shown, collections=[show_membership(member) for member in members])


@router.get(
    "/{image_id}/content",
    response_class=Response,
    responses={
        200: {
            "content": {
                f"image/{format_}": {"schema": {"type": "string", "format": "binary"}}
                for format_ in ("jpeg", "png", "webp")
            }
        },
        **may(404),
    },
)
@requires(READ)
async def get_image_content(
    image_id: ImageId,
    services: ServicesDep,
    size: Annotated[
        int | None, Query(ge=1, le=MAX_SHOWN_SIDE, description="Longer side, pixels; a smaller image is not enlarged.")
    ] = None,
) -> Response:
    """The image, upright, encoded anew from its pixels: nothing else that the uploaded file held is sent."""
    content = await run_in_threadpool(_content, services.database, services.storage, image_id)
    format_, encoded = await services.embedding.decoding.render(content, size)
    headers = {"Cache-Control": "private, max-age=31536000, immutable"}  # the id is the hash of what it was
    return Response(encoded, media_type=f"image/{format_}", headers=headers)


def _content(database: DatabaseDep, storage: StorageDep, image_id: str) -> bytes:
    with database.transaction() as session:
        key = get_image(session, image_id).key
    return storage.get(key)


@router.get("/{image_id}/embedding", response_model=StoredEmbedding, responses={**FORMATS, **may(404, 409)})
@requires(READ)
async def get_image_embedding(
    image_id: ImageId,
    request: Request,
    services: ServicesDep,
    attendance: AttendanceDep,
    model: ModelQuery = None,
    layer: Annotated[Layer, Query()] = LAYER,
    normalize: Annotated[bool, Query(description="Scale the vector to length 1.")] = False,  # noqa: FBT002  # FastAPI passes it by name
) -> Response:
    """The image's vector: the stored one where there is one, else computed. In the formats of `POST /v1/embeddings`."""
    timings = Timings()
    served = await services.embedding.models.get(services.caller.tenant, model)
    check_layer(served, layer)
    vector = await attendance.result(_vector(services, served, image_id, layer, timings))
    if normalize:
        vector = direction(vector)
    media_type = negotiate(request.headers.get("accept", ""))
    content = stored_embedding(vector, media_type, model_id=served.row.id, layer=layer)
    return Response(content, media_type=media_type, headers={**timings.header(), "X-Model-Id": served.row.id})


async def _vector(services: Services, model: ServedModel, image_id: str, layer: str, timings: Timings) -> Vector:
    if layer == LAYER:
        return (await Searcher(services, model, timings).vectors_of({image_id}))[image_id]
    content = await run_in_threadpool(_content, services.database, services.storage, image_id)
    vector: Vector = (await services.embedding.embed([content], model, layer, timings))[0]
    return vector


@router.get("/{image_id}/neighbors", responses=may(404, 409))
@requires(READ)
async def get_image_neighbors(
    image_id: ImageId,
    services: ServicesDep,
    response: Response,
    collection: CollectionQuery = DEFAULT,
    model: ModelQuery = None,
    k: Annotated[int, Query(ge=1, le=MAX_K, description="Neighbours, at most.")] = 10,
    condition: FilterQuery = None,
) -> Neighbors:
    """The images of a collection that are most like a stored image, itself left out."""
    timings = Timings()
    served = await services.embedding.models.get(services.caller.tenant, model)
    searcher = Searcher(services, served, timings)
    question = await searcher.by_image(image_id)
    found = await searcher.answer([question], SearchOptions(collection=collection, k=k, filter=condition))
    response.headers.update(timings.header())
    return found[0]


@router.delete("/{image_id}", status_code=204, response_class=Response, responses=may(404))
@requires(WRITE)
def delete_image(image_id: ImageId, database: DatabaseDep, storage: StorageDep) -> None:
    """Delete an image from all collections, with its vectors and its bytes."""
    image_store.delete_image(database, storage, image_id)
