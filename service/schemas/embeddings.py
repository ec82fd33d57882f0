"""Embeddings as JSON, in the shape of OpenAI's, and as a form."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from models.variants import Variant
from service.schemas.fields import NAME_PATTERN
from service.schemas.image_inputs import ImageFiles, ImageUris
from service.schemas.images import ModelKey

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


class EmbeddingRequest(EmbeddingOptions, ImageUris):
    """Images as data URIs."""


class EmbeddingForm(EmbeddingOptions, ImageFiles):
    """Images as files."""


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
    variant: Variant = Field(description="The variant of the model that made them (the setting SIMCLR_VARIANT).")
    usage: Usage
