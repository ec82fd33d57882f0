"""Searches as JSON and as a form."""

from typing import Annotated, Literal, Self

from fastapi import UploadFile
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, Json, model_validator

from models.config import MAX_PIXELS_H
from service.collections import DEFAULT
from service.core.filters import Filter
from service.core.ids import IMAGE_ID_PATTERN
from service.schemas.images import CollectionKey, Metadata, ModelKey

MAX_K = 1000
MAX_QUERIES = 1000
MAX_RESULTS = 50_000  # of a batch
MAX_GROUPS, MAX_GROUP_SIZE = 100, 20

StoredImageId = Annotated[str, Field(pattern=IMAGE_ID_PATTERN)]
Vector = Annotated[list[FiniteFloat], Field(min_length=1, max_length=MAX_PIXELS_H)]


class SearchOptions(BaseModel):
    """Where to search and what to return."""

    model_config = ConfigDict(extra="forbid")

    collection: CollectionKey = Field(DEFAULT, description="Name or id of the collection to search in.")
    model: ModelKey | None = Field(None, description="Id of a model, or an alias; default: the one in production.")
    k: int = Field(10, ge=1, le=MAX_K, description="Neighbours, at most.")
    min_score: float = Field(-1, ge=-1, le=1, description="Least cosine similarity of a neighbour.")
    exact: bool = Field(False, description="Search without the index also where the collection is large.")
    filter: Filter | None = Field(None, description="Only images that it holds for.")
    group_by: Literal["label"] | None = Field(
        None, description="Answer with `groups`: the k labels whose best image is nearest, each with its best images."
    )
    group_size: int = Field(3, ge=1, le=MAX_GROUP_SIZE, description="Images of a group, at most.")

    @model_validator(mode="after")
    def _groups_are_not_too_many(self) -> Self:
        if self.group_by and self.k > MAX_GROUPS:
            raise ValueError(f"k: at most {MAX_GROUPS} groups")
        return self


class Query(BaseModel):
    """One query of a batch: an `image_id` or a `vector`."""

    model_config = ConfigDict(extra="forbid")

    image_id: StoredImageId | None = Field(None, description="A stored image, in any collection.")
    vector: Vector | None = Field(None, description="An embedding h of the model, of any length but 0.")

    @model_validator(mode="after")
    def _one_is_given(self) -> Self:
        if (self.image_id is None) == (self.vector is None):
            raise ValueError("image_id: give either it or `vector`")
        return self


class SearchRequest(SearchOptions):
    """A search by one of `image_id`, `vector`, `positive` with or without `negative`, or `queries`."""

    image_id: StoredImageId | None = Field(None, description="A stored image, in any collection.")
    vector: Vector | None = Field(None, description="An embedding h of the model, of any length but 0.")
    positive: list[StoredImageId] | None = Field(
        None, min_length=1, max_length=100, description="Stored images that the results should be like."
    )
    negative: list[StoredImageId] = Field(
        [], max_length=100, description="Stored images that they should be unlike; needs `positive`."
    )
    queries: list[Query] | None = Field(None, min_length=1, max_length=MAX_QUERIES, description="A batch.")
    exclude_self: bool = Field(True, description="Leave the images of the query out of its results.")

    @model_validator(mode="after")
    def _one_is_given(self) -> Self:
        kinds = ("image_id", "vector", "positive", "queries")
        given = [kind for kind in kinds if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ValueError(f"give one of {', '.join(kinds)}, not {' and '.join(given) or 'none'}")
        if self.negative and not self.positive:
            raise ValueError("negative: needs `positive`")
        if self.queries and self.group_by:
            raise ValueError("group_by: not with `queries`")
        if self.queries and len(self.queries) * self.k > MAX_RESULTS:
            raise ValueError(f"k: at most {MAX_RESULTS // len(self.queries)} for {len(self.queries)} queries")
        return self


class SearchForm(SearchOptions):
    """A search by an image that is not stored."""

    file: UploadFile = Field(description="A JPEG, PNG or WebP file.")
    filter: Json[Filter] | None = Field(None, description="As JSON: only images that it holds for.")


class Neighbor(BaseModel):
    """An image found; `score` is the cosine similarity of its h and the query."""

    id: str
    score: float
    label: str | None
    metadata: Metadata
    filename: str | None


class Neighbors(BaseModel):
    """The images found, best first."""

    model: str = Field(description="Id of the model whose vectors were compared.")
    items: list[Neighbor]


class BatchResult(BaseModel):
    """The images found for each query, in the order of the request."""

    results: list[Neighbors]


class Group(BaseModel):
    """The images found that have a label, best first; null groups those without one."""

    label: str | None
    items: list[Neighbor]


class Groups(BaseModel):
    """The labels found, in the order of their best image."""

    model: str = Field(description="Id of the model whose vectors were compared.")
    groups: list[Group]
