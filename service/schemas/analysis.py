"""What a collection's vectors tell, as JSON."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import Query
from pydantic import BaseModel, Field

Method = Literal["pca", "umap"]
Threshold = Annotated[float, Query(gt=0, le=1, description="Least cosine similarity of near-duplicates.")]


class DuplicateImage(BaseModel):
    """An image of a group."""

    id: str
    label: str | None
    filename: str | None


class DuplicateGroup(BaseModel):
    """Images that are linked by cosines of at least the threshold, in order of id."""

    images: list[DuplicateImage]


class DuplicateGroups(BaseModel):
    """A page of groups in order of their first image; one may be empty and not be the last."""

    model: str = Field(description="Id of the model whose vectors were compared.")
    items: list[DuplicateGroup]
    next: str | None = Field(description="The `cursor` of the following page; null after the last.")


class LabelQuality(BaseModel):
    """How well the images of a label are found by each other."""

    label: str
    num_sampled: int
    precision_at_k: float


class CollectionQuality(BaseModel):
    """How well a collection's vectors agree with its labels; null where fewer than two images have label and vector."""

    model: str = Field(description="Id of the model whose vectors were compared.")
    k: int
    num_labelled: int = Field(description="Images that have a label and a vector.")
    num_sampled: int = Field(description="Those that were asked with: 1,000 at most, by chance.")
    precision_at_k: float | None = Field(
        description="Of the k labelled images nearest to a sampled one, the share that have its label."
    )
    chance: float | None = Field(description="precision@k if the vectors knew nothing of the labels.")
    purity: float | None = Field(
        description="Share of the sampled images that are of the commonest label of their cluster; there are as many"
        " clusters as labels."
    )
    labels: list[LabelQuality]


class MapPoint(BaseModel):
    """An image on the map."""

    id: str
    x: float
    y: float
    label: str | None


class CollectionMap(BaseModel):
    """The directions of a collection's vectors in two dimensions."""

    model: str = Field(description="Id of the model whose vectors are shown.")
    method: Method = Field(description="pca: their first two principal components; umap: neighbours stay neighbours.")
    job_id: str | None = Field(description="The job that made it; null for pca.")
    projected_at: datetime | None = Field(description="When that job ended.")
    num_images: int = Field(description="Images of the collection, counted up to one more than the map has at most.")
    num_without_point: int = Field(
        description="Of these, those that are not on the map: they came after its job, have no vector yet, or are"
        " beyond what a map holds."
    )
    items: list[MapPoint] = Field(
        description="In order of id; of a large collection, the first ids, which are a sample."
    )
