"""Embeddings as JSON, in the shape of OpenAI's, and as a form."""

from typing import Annotated, Literal

from fastapi import UploadFile
from pydantic import BaseModel, ConfigDict, Field

from service.schemas.fields import NAME_PATTERN
from service.schemas.images import ModelKey

DataUri = Annotated[str, Field(pattern=r"^data:[^,]{0,200};base64,", description="data:image/png;base64,…")]
Layer = Annotated[
    str, Field(pattern=NAME_PATTERN, description="h, or another layer that the model exports, such as z.")
]


class EmbeddingOptions(BaseModel):
    """Which embedding, and how it is written."""

    model_config = ConfigDict(extra="forbid")

    model: ModelKey | None = Field(None, description="Id of a model, or an alias; default: the one in production.")
    layer: Layer = "h"
    encoding_format: Literal["float", "base64"] = Field(
        "float", description="base64: of little-endian float32, a fifth of the size."
    )


class EmbeddingRequest(EmbeddingOptions):
    """Images as data URIs."""

    input: DataUri | Annotated[list[DataUri], Field(min_length=1)] = Field(description="One image or many.")


class EmbeddingForm(EmbeddingOptions):
    """Images as files."""

    files: list[UploadFile] = Field(min_length=1, description="JPEG, PNG or WebP files.")


class EmbeddingItem(BaseModel):
    """The embedding of the image at a position of the request."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class Usage(BaseModel):
    """What the request used; there are no tokens in an image."""

    num_images: int
    prompt_tokens: int = 0
    total_tokens: int = 0


class EmbeddingList(BaseModel):
    """The embeddings, in the order of the request."""

    object: Literal["list"] = "list"
    data: list[EmbeddingItem]
    model: str = Field(description="Id of the model that made them.")
    usage: Usage
