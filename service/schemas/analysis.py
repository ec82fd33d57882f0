"""What a collection's vectors tell, as JSON."""

from typing import Annotated

from fastapi import Query
from pydantic import BaseModel, Field

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
