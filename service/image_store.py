"""Images are kept with their collection, label and vector in one transaction, their bytes in storage before it commits.

Every upload of an image that isn't stored yet writes a blob of its own, whose key the row then names. So a deletion
never takes a blob from under another upload of the same bytes, and what a crash leaves is a blob without a row.
"""

import hashlib
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Text, delete, func, literal_column, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from models.config import IndexRecipe
from service.collections import ensure_collection
from service.core import jobs, vectors
from service.core.db import Database, tenant_of
from service.core.errors import Conflict, NotFound
from service.core.quotas import NO_LIMITS, Limits, check_images
from service.core.storage import Storage
from service.core.tables import CollectionImage, EmbeddingTable, Image, Job, Model
from service.production import queue_index, settled_model_id

REBUILD_SECONDS = 3600  # after an index could not be built, until it is tried again
LAYER = "h"  # the layer that is stored and searched
WRITERS = 8  # blobs written at once: most of the time goes into waiting for the disk


@dataclass(frozen=True)
class NewImage:
    """An image that decodes, and its vector (D,) if a model is in production."""

    id: str
    content: bytes
    format: str
    width: int
    height: int
    filename: str | None
    label: str | None
    vector: NDArray[np.float32] | None


class Kept(NamedTuple):
    """Whether an image is new to the collection, and its label there."""

    is_new: bool
    label: str | None


def image_id_of(content: bytes) -> str:
    """An image's id: the sha256 of its bytes."""
    return hashlib.sha256(content).hexdigest()


def store_images(
    database: Database,
    storage: Storage,
    images: Sequence[NewImage],
    *,
    collection: str,
    metadata: Mapping[str, Any],
    model: Model | None,
    limits: Limits = NO_LIMITS,
) -> dict[str, Kept]:
    """Store images with distinct ids, all or none; what the collection has of each afterwards.

    Labels and metadata that are given take the place of earlier ones. Where another model than `model`, which made the
    vectors, is in production by now, a job is queued that adds its own. Raises QuotaExceeded.
    """
    images = sorted(images, key=lambda image: image.id)  # one order of locks in all uploads: no deadlock
    if model is not None:
        with database.transaction() as session:
            vectors.ensure_table(session, model, LAYER)
    with _blobs(storage) as blobs, database.transaction() as session:
        collection_id = ensure_collection(session, collection).id
        _insert_images(session, images, blobs)
        check_images(session, limits)
        kept = _insert_members(session, images, collection_id, metadata)
        if model is not None and (table := vectors.find_table(session, model.id, LAYER)):
            _insert_vectors(session, images, table)
        serving_id = settled_model_id(session) if images else None
        if serving_id is not None and (model is None or serving_id != model.id):
            queue_index(session, serving_id)
        blobs.settle()
    return kept


class _Blobs:
    """The blobs that a transaction writes, and those of them that its rows name."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._written: set[str] = set()
        self._named: set[str] = set()

    def write(self, images: Sequence[NewImage]) -> dict[str, str]:
        """Write the images' bytes; the keys by image id."""
        keys = {image.id: f"images/{image.id[:2]}/{image.id}.{secrets.token_hex(4)}" for image in images}
        self._written.update(keys.values())
        with ThreadPoolExecutor(WRITERS) as pool:
            list(pool.map(lambda image: self._storage.put(keys[image.id], image.content), images))
        return keys

    def name(self, keys: Iterable[str]) -> None:
        """Note the blobs that rows name."""
        self._named.update(keys)

    def settle(self) -> None:
        """Keep those that rows name, whatever comes: the commit is next, and even one that fails may have happened."""
        self._written -= self._named

    def delete_surplus(self) -> None:
        """Delete what no row names."""
        for key in self._written:
            self._storage.delete(key)


@contextmanager
def _blobs(storage: Storage) -> Iterator[_Blobs]:
    """Blobs of which only those are left at the end that were settled."""
    blobs = _Blobs(storage)
    try:
        yield blobs
    finally:
        blobs.delete_surplus()


def _insert_images(session: Session, images: Sequence[NewImage], blobs: _Blobs) -> None:
    """Have a row for each image, locked against deletion until this commits."""
    while new := _without_row(session, images):
        keys = blobs.write(new)
        rows = [
            {
                "tenant": tenant_of(session),
                "id": image.id,
                "key": keys[image.id],
                "format": image.format,
                "width": image.width,
                "height": image.height,
                "num_bytes": len(image.content),
            }
            for image in new
        ]
        # Another upload of the same bytes may have been faster: then its blob stays and this one is surplus. Its row
        # isn't locked by this, and may be deleted before the next look: then it is made again.
        statement = insert(Image).values(rows).on_conflict_do_nothing().returning(Image.key)
        blobs.name(session.scalars(statement))


def _without_row(session: Session, images: Sequence[NewImage]) -> list[NewImage]:
    """The images that have no row; the rows of the others are locked against deletion."""
    ids = [image.id for image in images]
    held = select(Image.id).where(Image.id.in_(ids)).order_by(Image.id).with_for_update(read=True, key_share=True)
    known = set(session.scalars(held))
    return [image for image in images if image.id not in known]


def _insert_members(
    session: Session, images: Sequence[NewImage], collection_id: str, metadata: Mapping[str, Any]
) -> dict[str, Kept]:
    if not images:
        return {}
    table = CollectionImage.__table__
    statement = insert(CollectionImage).values(
        [
            {
                "tenant": tenant_of(session),
                "collection_id": collection_id,
                "image_id": image.id,
                "label": image.label,
                "metadata_": dict(metadata),
                "filename": image.filename,
            }
            for image in images
        ]
    )
    given = statement.excluded
    upsert = statement.on_conflict_do_update(
        index_elements=[table.c.collection_id, table.c.image_id],
        set_={
            "label": func.coalesce(given.label, table.c.label),
            "metadata": table.c.metadata.op("||")(given["metadata"]),
            "filename": func.coalesce(given.filename, table.c.filename),
        },
    )
    is_new: ColumnElement[str] = literal_column("xmax::text", Text)  # of a row that was just inserted it is 0
    rows = session.execute(upsert.returning(CollectionImage.image_id, is_new, CollectionImage.label)).all()
    return {image_id: Kept(xmax == "0", label) for image_id, xmax, label in rows}


def _insert_vectors(session: Session, images: Sequence[NewImage], table: EmbeddingTable) -> None:
    rows = [(image.id, image.vector) for image in images if image.vector is not None]
    if rows:
        vectors.insert_vectors(session, table, [row[0] for row in rows], np.stack([row[1] for row in rows]))
    if vectors.needs_index(session, table):
        job = jobs.submit(
            session,
            kind="index",
            recipe=IndexRecipe().model_dump(),
            model_id=table.model_id,
            idempotency_key=f"build:{vectors.table_name(table)}",  # once a table, whoever asks
        )
        long_ago = Job.finished_at < func.now() - timedelta(seconds=REBUILD_SECONDS)
        if session.scalar(select(Job.id).where(Job.id == job.id, Job.status == "failed", long_ago)):
            with suppress(Conflict):  # another upload was faster
                jobs.resume(session, job.id)


def get_image(session: Session, image_id: str) -> Image:
    """A stored image. Raises NotFound."""
    image = session.get(Image, (tenant_of(session), image_id))
    if image is None:
        raise _unknown(image_id)
    return image


def _unknown(image_id: str) -> NotFound:
    return NotFound(f"there is no image {image_id}")


def delete_image(database: Database, storage: Storage, image_id: str) -> None:
    """Delete an image from all collections, with its vectors and its bytes. Raises NotFound."""
    with database.transaction() as session:
        key = session.scalars(delete(Image).where(Image.id == image_id).returning(Image.key)).one_or_none()
    if key is None:
        raise _unknown(image_id)
    storage.delete(key)  # after the commit: a row never names a blob that is gone
