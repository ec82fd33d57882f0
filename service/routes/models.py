"""Models: exported encoders."""

from typing import Annotated

from fastapi import APIRouter, Path, Request
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.responses import Response

from service.core import vectors
from service.core.errors import Conflict, NotFound
from service.core.heads import forget_heads
from service.core.keys import READ, TRAIN
from service.core.maps import forget_maps_of_model
from service.core.tables import ENDED, Alias, Job, Model
from service.deps import DatabaseDep, SessionDep, StorageDep
from service.descriptions import describe_models
from service.downloads import not_modified, send_blob
from service.refusals import may
from service.schemas.fields import ModelId
from service.schemas.links import listed
from service.schemas.models import ModelOut
from service.schemas.page import IdCursor, Limit, Page, read_rows
from service.scopes import requires

router = APIRouter(prefix="/v1/models", tags=["models"])

FILE_TYPE, RANGES_TYPE = "application/octet-stream", "multipart/byteranges"
BINARY = {"schema": {"type": "string", "format": "binary"}}

FileName = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", description="A name from `files`.")]


@router.get("", responses=listed("model_id", "get_model", "delete_model"))
@requires(READ)
def list_models(session: SessionDep, cursor: IdCursor = None, limit: Limit = 50) -> Page[ModelOut]:
    """All models, newest first."""
    rows, following = read_rows(session, select(Model), Model.id, cursor=cursor, limit=limit)
    return Page[ModelOut](items=describe_models(session, rows), next=following)


@router.get("/{model_id}", responses=may(404))
@requires(READ)
def get_model(model_id: ModelId, session: SessionDep) -> ModelOut:
    """A model: its recipe, layers, files and what probes measured."""
    return describe_models(session, [_get(session, model_id)])[0]


@router.get(
    "/{model_id}/files/{name}",
    response_class=Response,
    responses={
        200: {"content": {FILE_TYPE: BINARY}},
        206: {"description": "The ranges that `Range` asks for.", "content": {FILE_TYPE: BINARY, RANGES_TYPE: BINARY}},
        304: {"description": "You have it: the `If-None-Match` you sent is its ETag."},
        **may(404, 416),
    },
)
@requires(READ)
def get_model_file(
    model_id: ModelId, name: FileName, request: Request, session: SessionDep, storage: StorageDep
) -> Response:
    """Download a file of a model. Its ETag is its sha256; ranges are served, so that a download can go on."""
    files = _get(session, model_id).files
    if name not in files:
        raise NotFound(f"the model {model_id} has no file {name!r}, only {', '.join(files)}")
    etag = f'"{files[name]["sha256"]}"'
    if answer := not_modified(request, etag):
        return answer
    response = send_blob(storage, files[name]["key"], media_type=FILE_TYPE)
    response.headers["ETag"] = etag
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


@router.delete("/{model_id}", status_code=204, response_class=Response, responses=may(404, 409))
@requires(TRAIN)
def delete_model(model_id: ModelId, database: DatabaseDep, storage: StorageDep) -> None:
    """Delete a model, its files, its vectors, and what its probes and maps left in storage.

    Refused while an alias serves it or an unfinished job needs it.
    """
    with database.transaction() as session:
        model = session.get(Model, model_id, with_for_update=True) or _get(session, model_id)
        _check_unused(session, model_id)
        vectors.drop_tables(session, model_id)
        folders = [f"models/{model_id}", *forget_heads(session, model_id), *forget_maps_of_model(session, model_id)]
        session.delete(model)
    for folder in folders:  # after the commit: a row never names a blob that is gone
        storage.delete(folder)


def _check_unused(session: Session, model_id: str) -> None:
    aliases = session.scalars(select(Alias.name).where(Alias.model_id == model_id)).all()
    if aliases:
        raise Conflict(f"it serves as {', '.join(aliases)}; point that at another model first", code="in_use")
    using = session.scalars(select(Job.id).where(Job.model_id == model_id, Job.status.not_in(ENDED))).all()
    if using:
        raise Conflict(f"unfinished jobs work on it: {', '.join(using[:5])}; cancel them first", code="in_use")


def _get(session: Session, model_id: str) -> Model:
    model = session.get(Model, model_id)
    if model is None:
        raise NotFound(f"there is no model {model_id}")
    return model
