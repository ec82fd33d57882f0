"""Images and collections as JSON and as forms."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import Path, Query, UploadFile
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, Json

from service.collections import DEFAULT
from service.core.ids import IMAGE_ID_PATTERN
from service.core.tables import Collection, CollectionImage, Image
from service.membership import MAX_KEYS
from service.problems import Problem
from service.schemas.fields import NAME_PATTERN, NO_NUL, FromRow, Label, Text

Key = Annotated[str, Field(pattern=NO_NUL, min_length=1, max_length=64)]
Metadata = Annotated[
    dict[Key, Text | bool | int | FiniteFloat | None],
    Field(
        max_length=MAX_KEYS, json_schema_extra={"additionalProperties": False}
    ),  # for keys that aren't of the pattern
]
CollectionKey = Annotated[str, Field(pattern=NAME_PATTERN, description="Name or id of a collection.")]
ModelKey = Annotated[str, Field(pattern=NAME_PATTERN, description="Id of a model, or an alias.")]

ImageId = Annotated[str, Path(pattern=IMAGE_ID_PATTERN, description="sha256 of the image's bytes.")]
ImageCursor = Annotated[str | None, Query(pattern=IMAGE_ID_PATTERN, description="`next` of the page before.")]
LabelCursor = Annotated[
    str | None, Query(pattern=NO_NUL, min_length=1, max_length=200, description="`next` of the page before.")
]
CollectionPath = Annotated[str, Path(pattern=NAME_PATTERN, description="Name or id of a collection.")]
CollectionQuery = Annotated[str, Query(pattern=NAME_PATTERN, description="Name or id of a collection.")]
ModelQuery = Annotated[
    str | None, Query(pattern=NAME_PATTERN, description="Id of a model, or an alias; default: the one in production.")
]


class ImagesForm(BaseModel):
    """Images to store in a collection."""

    model_config = ConfigDict(extra="forbid")

    files: list[UploadFile] = Field(min_length=1, description="JPEG, PNG or WebP files.")
    collection: CollectionKey = Field(DEFAULT, description="Name or id of a collection; a new name makes one.")
    label: Label | None = Field(None, description="Of every image that `labels` gives none.")
    labels: Json[list[Label | None]] | None = Field(None, description="A JSON list with a label or null for each file.")
    metadata: Json[Metadata] = Field(
        {}, description="A JSON object of your own notes, kept with every image of this request."
    )

    on_duplicate: Literal["keep", "report", "reject"] = Field(
        "keep",
        description="What to do with a file that is nearly an image of the collection, or an earlier file:"
        " keep it unseen, keep it and name the other one, or name the other one and don't keep it.",
    )
    duplicate_threshold: float = Field(0.95, gt=0, le=1, description="Least cosine similarity of near-duplicates.")


class NearDuplicate(BaseModel):
    """The image that an uploaded one is nearly."""

    id: str
    score: float = Field(description="Cosine similarity of the two vectors h.")


class UploadedImage(BaseModel):
    """What became of one file."""

    filename: str | None
    status: Literal["created", "exists", "failed", "rejected"] = Field(
        description="exists: the collection had it; a label or metadata that you gave is now the image's."
        " rejected: a near-duplicate that you did not want."
    )
    id: str | None = Field(description="sha256 of the bytes; null if it failed.")
    label: str | None
    error: Problem | None = None
    near_duplicate: NearDuplicate | None = Field(None, description="As `on_duplicate` asks.")


class UploadResult(BaseModel):
    """What became of each file, in the order of the request."""

    items: list[UploadedImage]


class ImageOut(FromRow):
    """A stored image."""

    id: str
    format: Literal["jpeg", "png", "webp"]
    width: int
    height: int
    num_bytes: int
    created_at: datetime


class Membership(BaseModel):
    """What a collection says of an image."""

    collection_id: str
    label: str | None
    metadata: Metadata
    filename: str | None


class ImageInCollection(ImageOut):
    """An image of a collection."""

    label: str | None
    metadata: Metadata
    filename: str | None


class ImageDetails(ImageOut):
    """An image, and the collections that it is in."""

    collections: list[Membership]


class StoredEmbedding(BaseModel):
    """The vector of an image."""

    model: str
    layer: str
    embedding: list[float]


class NewCollection(BaseModel):
    """A collection to make."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(pattern=NAME_PATTERN)


class CollectionOut(BaseModel):
    """A named set of images to search in."""

    id: str
    name: str
    num_images: int
    created_at: datetime


class LabelCount(BaseModel):
    """A label that images of a collection have."""

    label: str
    num_images: int


class MemberBody(BaseModel):
    """What a collection is to say of an image."""

    model_config = ConfigDict(extra="forbid")

    label: Label | None = None
    metadata: Metadata = {}


class MemberChange(BaseModel):
    """What to change of what a collection says of an image; the rest stays."""

    model_config = ConfigDict(extra="forbid")

    label: Label | None = Field(None, description="null: none any more.")
    metadata: Metadata = Field({}, description="Keys to add, or to give another value.")
    unset: list[Key] = Field([], max_length=MAX_KEYS, description="Keys of the metadata to take away.")


class Removed(BaseModel):
    """How many images were taken out of the collection."""

    num_removed: int


def show_member(image: Image, member: CollectionImage) -> ImageInCollection:
    """An image of a collection as the API shows it."""
    return ImageInCollection.model_validate(
        {
            **ImageOut.model_validate(image).model_dump(),
            "label": member.label,
            "metadata": member.metadata_,
            "filename": member.filename,
        }
    )


def show_membership(member: CollectionImage) -> Membership:
    """What a collection says of an image, as the API shows it."""
    return Membership(
        collection_id=member.collection_id, label=member.label, metadata=member.metadata_, filename=member.filename
    )


def show_collection(collection: Collection, num_images: int) -> CollectionOut:
    """A collection as the API shows it."""
    return CollectionOut(
        id=collection.id, name=collection.name, num_images=num_images, created_at=collection.created_at
    )
