"""Models and aliases as JSON."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.schemas.fields import FromRow, Id


class FileOut(BaseModel):
    """A file of a model."""

    sha256: str
    num_bytes: int


class LayerCosine(BaseModel):
    """Over held-out images; null where a vector isn't finite."""

    min: float | None
    mean: float | None


class VariantOut(BaseModel):
    """The model in another arithmetic, and how well it agrees with the trained network on held-out images."""

    status: Literal["published", "refused"]
    reason: str | None = Field(None, description="Why it is refused.")
    cosine: dict[str, LayerCosine] | None = Field(
        None, description="To the network's vectors, by layer; null in models of older releases."
    )
    knn_agreement: float | None = Field(None, description="Share of images whose nearest neighbour in h is the same.")
    knn_overlap: float | None = Field(None, description="Mean share of the ten nearest that are the same.")


class IndexOut(FromRow):
    """A layer whose vectors are stored, and what its index finds of the exact answer."""

    layer: str
    size: int = Field(description="Values of a vector.")
    recall: float | None = Field(description="recall@10 of the index, measured on 200 vectors; null without an index.")
    ef_search: int | None = Field(description="Candidates that a search keeps, the fewest for that recall.")
    num_measured: int | None = Field(description="Vectors at the time of the measurement.")
    measured_at: datetime | None


class ModelOut(BaseModel):
    """An exported encoder."""

    id: str
    job_id: str | None = Field(description="The job that made it.")
    dataset_id: str | None = Field(description="What it was last trained on; null once that is deleted.")
    recipe: dict[str, Any]
    preprocessing: dict[str, Any]
    layers: dict[str, int] = Field(description="Dimensions of each layer that it can give, first to last.")
    parity_cosine: float = Field(description="Least cosine of float32 to the trainer's vectors.")
    variants: dict[str, VariantOut] = Field(description="By name: float32, float16, int8.")
    files: dict[str, FileOut]
    probes: dict[str, Any] = Field(description="The newest linear and kNN probe of h, by kind.")
    aliases: list[str] = Field(description="The aliases that serve it.")
    indexes: list[IndexOut] = Field(description="The layers that are searched.")
    created_at: datetime


class AliasTarget(BaseModel):
    """The model that an alias is to serve."""

    model_config = ConfigDict(extra="forbid")

    model_id: Id


class AliasOut(FromRow):
    """A name that serves a model."""

    name: str
    model_id: str
    updated_at: datetime


class AliasMoved(AliasOut):
    """An alias after a change."""

    previous_model_id: str | None
    index_job_id: str | None = Field(
        description="The job that embeds the stored images without a vector of this model; null if all have one."
    )


class AliasChangeOut(FromRow):
    """A change of an alias."""

    id: int
    model_id: str
    previous_model_id: str | None
    at: datetime
