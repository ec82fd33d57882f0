"""Images of an upload that are nearly those that a collection has, or that come before them in the upload."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from service.core import vectors
from service.core.db import Database
from service.core.exact_search import cosines
from service.core.nearest import nearest
from service.core.tables import Collection, CollectionImage, Model
from service.image_store import LAYER, NewImage


class Twin(NamedTuple):
    """The image that another one is nearly, and their cosine similarity."""

    image_id: str
    score: float


def find_twins(
    database: Database,
    images: Sequence[NewImage],
    *,
    collection: str,
    model: Model,
    threshold: float,
    is_kept: bool,
) -> dict[str, Twin]:
    """The twin of each image that has one in the collection, or else before it; by id.

    An image that the collection has is looked up by nobody: it is no new one. `is_kept` says whether an image with a
    twin is stored, and so may be the twin of a later one. An upload at the same moment isn't seen.
    """
    with database.transaction() as session:
        fresh, stored = _compared(session, images, collection, model, threshold)
    twins: dict[str, Twin] = {}
    earlier: list[NewImage] = []
    for image in fresh:
        twin = stored.get(image.id) or _twin_among(earlier, image, threshold)
        if twin is not None:
            twins[image.id] = twin
        if twin is None or is_kept:
            earlier.append(image)
    return twins


def _compared(
    session: Session, images: Sequence[NewImage], collection: str, model: Model, threshold: float
) -> tuple[list[NewImage], dict[str, Twin]]:
    """The images that are new to the collection, and their twins there."""
    found = session.scalar(select(Collection.id).where((Collection.id == collection) | (Collection.name == collection)))
    table = vectors.find_table(session, model.id, LAYER)
    if found is None or not images:
        return list(images), {}
    held = select(CollectionImage.image_id).where(
        CollectionImage.collection_id == found, CollectionImage.image_id.in_([image.id for image in images])
    )
    known = set(session.scalars(held))
    fresh = [image for image in images if image.id not in known]
    if table is None or not fresh:
        return fresh, {}
    hits = nearest(session, table, _stack(fresh), collection_id=found, k=1, min_score=threshold)
    return fresh, {image.id: Twin(*best[0]) for image, best in zip(fresh, hits, strict=True) if best}


def _twin_among(earlier: Sequence[NewImage], image: NewImage, threshold: float) -> Twin | None:
    if not earlier:
        return None
    scores = np.nan_to_num(cosines(_stack([image]), _stack(earlier))[0], nan=-1.0)
    best = int(scores.argmax())
    return Twin(earlier[best].id, float(scores[best])) if scores[best] >= threshold else None


def _stack(images: Sequence[NewImage]) -> NDArray[np.float32]:
    return np.stack([image.vector for image in images if image.vector is not None])
