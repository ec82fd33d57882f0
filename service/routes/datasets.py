"""Data sets: upload an archive of images to train on."""

from typing import Annotated, Literal

from fastapi import APIRouter, Form, Response, UploadFile
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from models.config import IngestRecipe
from service.core import jobs
from service.core.errors import Conflict, NotFound, TooLarge
from service.core.ids import new_id
from service.core.keys import READ, WRITE
from service.core.tables import ENDED, Dataset, DatasetRejection, Job
from service.deps import DatabaseDep, SessionDep, SettingsDep, StorageDep
from service.descriptions import describe_datasets
from service.refusals import may
from service.schemas.datasets import DatasetOut, Rejection
from service.schemas.fields import DatasetId, Label
from service.schemas.links import created, links_to, listed
from service.schemas.page import IdCursor, Limit, NumberCursor, Page, read_rows
from service.scopes import requires
from service.uploads import stored_upload

router = APIRouter(prefix="/v1/datasets", tags=["datasets"])

OF_ONE = ("get_dataset", "list_rejections", "delete_dataset")


class DatasetForm(BaseModel):
    """A new data set."""

    model_config = ConfigDict(extra="forbid")

    file: UploadFile = Field(
        description="zip, tar, tar.gz or tar.zst. Folders are classes; optional top-level train/ and test/ or val/."
    )
    name: Label = Field(description="Yours to choose; need not be unique.")
    on_invalid: Literal["reject", "skip"] = Field(
        "reject", description="A file that is no readable image fails the data set (reject), or is listed (skip)."
    )
    storage_side: int = Field(
        256, ge=32, le=1024, description="Images whose shorter side is longer are stored reduced to it."
    )


@router.post(
    "",
    status_code=202,
    responses=created(202, links_to("dataset_id", *OF_ONE)),
)
@requires(WRITE)
def create_dataset(
    form: Annotated[DatasetForm, Form(media_type="multipart/form-data")],
    response: Response,
    settings: SettingsDep,
    storage: StorageDep,
    database: DatabaseDep,
) -> DatasetOut:
    """Upload an archive. It is validated, deduplicated and packed by a job; poll the data set until it is `ready`."""
    if (form.file.size or 0) > settings.max_archive_bytes:
        raise TooLarge(
            f"file: at most {settings.max_archive_bytes:,} bytes, not {form.file.size:,};"
            " the service's setting SIMCLR_MAX_ARCHIVE_BYTES raises it"
        )
    recipe = IngestRecipe(on_invalid=form.on_invalid, storage_side=form.storage_side)
    dataset_id = new_id("ds")
    folder = f"datasets/{dataset_id}"
    with (
        stored_upload(storage, folder, "archive", form.file.file) as archive,
        database.transaction() as session,
    ):
        dataset = Dataset(
            id=dataset_id,
            name=form.name,
            on_invalid=form.on_invalid,
            archive_name=_displayed(form.file.filename),
            archive_key=archive.key,
            archive_sha256=archive.sha256,
        )
        session.add(dataset)
        session.flush()
        jobs.submit(session, kind="ingest", recipe=recipe.model_dump(), dataset_id=dataset_id)
        [created_dataset] = describe_datasets(session, [dataset])
        archive.settle()
    response.headers["Location"] = f"/v1/datasets/{dataset_id}"
    return created_dataset


def _displayed(filename: str | None) -> str:
    """A client's file name as a text that can be stored; it never becomes a path."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in filename or "archive")[-200:]


@router.get("", responses=listed("dataset_id", *OF_ONE))
@requires(READ)
def list_datasets(session: SessionDep, cursor: IdCursor = None, limit: Limit = 50) -> Page[DatasetOut]:
    """All data sets, newest first."""
    rows, following = read_rows(session, select(Dataset), Dataset.id, cursor=cursor, limit=limit)
    return Page[DatasetOut](items=describe_datasets(session, rows), next=following)


@router.get("/{dataset_id}", responses=may(404))
@requires(READ)
def get_dataset(dataset_id: DatasetId, session: SessionDep) -> DatasetOut:
    """A data set; its counts are there once it is `ready`."""
    return describe_datasets(session, [_get(session, dataset_id)])[0]


@router.get("/{dataset_id}/rejected", responses=may(404))
@requires(READ)
def list_rejections(
    dataset_id: DatasetId, session: SessionDep, cursor: NumberCursor = None, limit: Limit = 50
) -> Page[Rejection]:
    """The files of the archive that are not in the data set, in the archive's order, and why."""
    _get(session, dataset_id)
    statement = select(DatasetRejection).where(DatasetRejection.dataset_id == dataset_id)
    rows, following = read_rows(
        session, statement, DatasetRejection.position, cursor=cursor, limit=limit, descending=False
    )
    return Page[Rejection](items=[Rejection.model_validate(row) for row in rows], next=following)


@router.delete("/{dataset_id}", status_code=204, response_class=Response, responses=may(404, 409))
@requires(WRITE)
def delete_dataset(dataset_id: DatasetId, database: DatabaseDep, storage: StorageDep) -> None:
    """Delete a data set that no unfinished job works on. Models that were trained on it stay."""
    with database.transaction() as session:
        dataset = session.get(Dataset, dataset_id, with_for_update=True) or _get(session, dataset_id)
        using = session.scalars(select(Job.id).where(Job.dataset_id == dataset_id, Job.status.not_in(ENDED))).all()
        if using:
            raise Conflict(f"unfinished jobs work on it: {', '.join(using[:5])}; cancel them first", code="in_use")
        session.delete(dataset)
    storage.delete(f"datasets/{dataset_id}")  # after the commit: a row never names a blob that is gone


def _get(session: Session, dataset_id: str) -> Dataset:
    dataset = session.get(Dataset, dataset_id)
    if dataset is None:
        raise NotFound(f"there is no data set {dataset_id}")
    return dataset
