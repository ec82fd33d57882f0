"""Collections as files: out, and in."""

import tempfile
from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from service.arrow_stream import ARROW, PARQUET, stream
from service.collection_export import export_batches, export_schema
from service.collection_import import import_file
from service.collections import find_collection
from service.content_types import content_type
from service.core.keys import READ, WRITE
from service.core.members import members_of
from service.deps import DatabaseDep, ServicesDep
from service.filter_query import FilterQuery
from service.refusals import may
from service.schemas.embeddings import Layer
from service.schemas.images import CollectionPath, ModelQuery
from service.scopes import requires
from service.vector_tables import find_vectors

router = APIRouter(prefix="/v1/collections/{collection}", tags=["images"])

BINARY = {"schema": {"type": "string", "format": "binary"}}
MEDIA_TYPES = {"parquet": PARQUET, "arrow": ARROW}


class ImportResult(BaseModel):
    """What became of the rows."""

    num_imported: int = Field(description="Rows whose image the service has.")
    num_vectors: int = Field(description="Vectors that the images did not have yet.")
    num_unknown: int = Field(description="Rows whose image the service doesn't have: they are left out.")
    unknown: list[str] = Field(description="The ids of the first 20 of these.")


@router.get(
    "/export",
    response_class=StreamingResponse,
    responses={200: {"content": {PARQUET: BINARY, ARROW: BINARY}}, **may(404, 409)},
)
@requires(READ)
def export_collection(
    collection: CollectionPath,
    database: DatabaseDep,
    format: Annotated[Literal["parquet", "arrow"], Query(description="A Parquet file or an Arrow stream.")] = "parquet",  # noqa: A002  # its name in the API
    layer: Annotated[Layer | None, Query(description="With the vectors of this layer, such as h.")] = None,
    model: ModelQuery = None,
    condition: FilterQuery = None,
) -> StreamingResponse:
    """What the collection says of its images, as a file.

    Its columns are id, label, metadata (JSON), filename and, with `layer`, vector; its rows are in order of id. It is
    read while it is sent, a thousand rows at a time.
    """
    with database.transaction() as session:
        members = members_of(find_collection(session, collection).id, condition)
        table = find_vectors(session, model, layer) if layer else None
    media_type = MEDIA_TYPES[format]
    content = stream(export_batches(database, members, table), export_schema(table), media_type)
    headers = {"Content-Disposition": f'attachment; filename="{collection}.{format}"'}
    return StreamingResponse(content, media_type=media_type, headers=headers)


@router.post(
    "/import",
    responses=may(404),
    openapi_extra={"requestBody": {"required": True, "content": {PARQUET: BINARY, ARROW: BINARY}}},
)
@requires(WRITE)
async def import_collection(collection: CollectionPath, request: Request, services: ServicesDep) -> ImportResult:
    """Take an exported file in: labels, metadata and file names of images that the service has, and vectors they lack.

    The body is the file, of the type that Content-Type says; a new collection's name makes one. Images are not in the
    file: rows of others are counted and left out. A thousand rows are stored at once, and the same file may come again.
    One that unpacks to much more than it is gets 413: a thousand rows take at most 64 MiB.
    """
    with tempfile.NamedTemporaryFile(prefix="simclr-import-") as file:
        async for part in request.stream():
            await run_in_threadpool(file.write, part)
        file.flush()
        result = await run_in_threadpool(
            import_file, services.database, Path(file.name), content_type(request.headers), collection
        )
    return ImportResult.model_validate(result, from_attributes=True)
