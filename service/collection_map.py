"""A collection's map: by its principal components, computed now, or as a job laid it out."""

import json
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

import numpy as np
from sqlalchemy import text
from sqlalchemy.orm import Session

from models.collection_map import MAP_FILE, Points
from service.core.errors import NotFound, Unavailable
from service.core.maps import kept_map, map_folder, newest_map
from service.core.members import Members
from service.core.projection import project
from service.core.storage import Storage
from service.core.tables import Job
from service.image_store import LAYER
from service.schemas.analysis import Method
from service.vector_tables import find_model_id, find_vectors


@dataclass(frozen=True)
class Map:
    """Where images are, by the vectors of a model."""

    model_id: str
    method: Method
    found: Points
    job_id: str | None = None
    projected_at: datetime | None = None


def project_now(session: Session, model: str | None, members: Members) -> Map:
    """The members' principal components. Raises NotFound or Conflict."""
    table = find_vectors(session, model, LAYER)
    found = project(session, table, members)
    return Map(table.model_id, "pca", Points(found.image_ids, found.points))


def read_newest(session: Session, storage: Storage, collection_id: str, model: str | None, method: Method) -> Map:
    """What the newest job left of a collection and a model.

    Raises NotFound (`no_map`), Conflict (`no_production_model`) or Unavailable (`map_damaged`).
    """
    model_id = find_model_id(session, model)
    job = newest_map(session, collection_id, model_id, method)
    if job is None:
        recipe = {"collection_id": collection_id, "method": method}
        request = json.dumps({"kind": "map", "model_id": model_id, "recipe": recipe})
        raise NotFound(f"there is no such map yet; a job makes it: POST /v1/jobs {request}", code="no_map")
    return _read(storage, job)


def read_of_job(session: Session, storage: Storage, collection_id: str, job_id: str) -> Map:
    """What a job left of the collection. Raises as `read_newest` does."""
    job = kept_map(session, collection_id, job_id)
    if job is None:
        detail = f"job: one of the kind map that has laid out this collection, as {job_id} has not"
        raise NotFound(detail, code="no_map")
    return _read(storage, job)


def labels_of(session: Session, members: Members, image_ids: list[str]) -> dict[str, str | None]:
    """The labels of those of the images that are members."""
    statement = text(
        f"select image_id, label from collection_image c where {members.where} and image_id = any(:image_ids)"  # noqa: S608  # its values are parameters
    )
    rows = session.execute(statement, {**members.parameters, "image_ids": image_ids})
    return {row.image_id: row.label for row in rows}


def only(found: Points, image_ids: dict[str, str | None]) -> Points:
    """The points of these images, in the order that they have."""
    kept = [i for i, image_id in enumerate(found.image_ids) if image_id in image_ids]
    return Points([found.image_ids[i] for i in kept], found.points[np.array(kept, np.intp)])


def _read(storage: Storage, job: Job) -> Map:
    assert job.result
    assert job.model_id
    try:
        content = storage.get(f"{map_folder(job.id, job.attempt)}/{MAP_FILE}")
    except NotFound:
        content = b""
    if sha256(content).hexdigest() != job.result["map"]["sha256"]:
        raise Unavailable(f"the map of {job.id} is lost or damaged in storage; start a new one", code="map_damaged")
    return Map(job.model_id, job.recipe["method"], Points.load(content), job.id, job.finished_at)
