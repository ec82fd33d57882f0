"""Data sets as JSON."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from service.schemas.fields import FromRow


class Failure(BaseModel):
    """Why something failed."""

    code: str = Field(description="Stable name, for programs.")
    message: str


class Split(BaseModel):
    """A part of a data set."""

    num_images: int
    per_class: list[int] = Field(description="Images of each class, in the order of `classes`.")


class ImageSizes(BaseModel):
    """Sizes of the images, [width, height] in pixels."""

    min: tuple[int, int]
    median: tuple[int, int]
    max: tuple[int, int]


class DatasetOut(BaseModel):
    """Images to train on. The counts are null until it is `ready`."""

    id: str
    name: str
    status: Literal["validating", "ready", "failed"]
    on_invalid: Literal["reject", "skip"]
    archive_name: str
    archive_sha256: str
    num_images: int | None
    num_duplicates: int | None = Field(description="Images left out because the same content was there already.")
    num_rejected: int | None = Field(description="Files left out because they are no readable image.")
    classes: list[str] | None = Field(description="Names of the folders; empty if there are none.")
    splits: dict[str, Split] | None
    image_sizes: ImageSizes | None
    error: Failure | None
    job_id: str | None = Field(description="The job that validates and packs it.")
    created_at: datetime


class Rejection(FromRow):
    """A file of an archive that is not in the data set, and why."""

    name: str
    code: str
    detail: str
