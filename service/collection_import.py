"""What an exported table says of stored images, taken into a collection.

The images themselves are not in it: rows of images that the service doesn't have are counted and left out. A row's
label and metadata take the place of the image's. A vector is stored where the image has none of that model's layer:
what is there was computed from the very image, so a file may add to it, but not change it.

A thousand rows are one transaction. A file with a mistake is taken up to the thousand before it, and may come again.
"""

import re
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, Json, TypeAdapter, ValidationError
from sqlalchemy import func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from service.collection_export import LAYER, MODEL
from service.collections import ensure_collection
from service.core import vectors
from service.core.db import Database, tenant_of
from service.core.errors import Invalid
from service.core.ids import ID_PATTERN, IMAGE_ID_PATTERN
from service.core.tables import CollectionImage, EmbeddingTable, Image, Model
from service.schemas.fields import Label, Text
from service.schemas.images import Metadata
from service.table_reading import read_batches

BATCH_ROWS = 1000
MAX_UNKNOWN_SHOWN = 20


class ImportedRow(BaseModel):
    """A row of the file but its vector."""

    model_config = ConfigDict(extra="ignore")

    id: Annotated[str, Field(pattern=IMAGE_ID_PATTERN)]
    label: Label | None = None
    metadata: Json[Metadata] | None = None
    filename: Text | None = None


ROWS = TypeAdapter(list[ImportedRow])


@dataclass
class Imported:
    """What became of the rows so far."""

    num_imported: int = 0
    num_vectors: int = 0
    num_unknown: int = 0
    unknown: list[str] = field(default_factory=list)


def import_file(database: Database, path: Path, media_type: str, collection: str) -> Imported:
    """Take the rows of a file in.

    Raises Invalid for what is no such table, or a row that isn't right, and TooLarge for what unpacks to too much.
    """
    result = Imported()
    with closing(read_batches(path, media_type, BATCH_ROWS)) as batches:
        table = _table(database, next(batches).schema)
        for batch in batches:
            first_row = result.num_imported + result.num_unknown
            rows, h = _validated(batch, first_row), _vectors(batch, table, first_row)
            with database.transaction() as session:
                _take(session, rows, h, table, collection, result)
    return result


def _table(database: Database, schema: pa.Schema) -> EmbeddingTable | None:
    """The table for the file's vectors, made if there is none yet; None where it has no vectors."""
    if "id" not in schema.names:
        raise _invalid("id", "a column of image ids is needed")
    if "vector" not in schema.names:
        return None
    said = schema.metadata or {}
    model_id, layer = said.get(MODEL, b"").decode(errors="replace"), said.get(LAYER, b"").decode(errors="replace")
    with database.transaction() as session:
        model = session.get(Model, model_id) if re.fullmatch(ID_PATTERN, model_id) else None
        if model is None or layer not in model.layers:
            raise _invalid("vector", "simclr.model and simclr.layer of the schema's metadata name no layer of a model")
        expected = pa.list_(pa.float32(), model.layers[layer])
        if schema.field("vector").type != expected:
            raise _invalid("vector", f"a column of {expected}, not {schema.field('vector').type}")
        return vectors.ensure_table(session, model, layer)


def _validated(batch: pa.RecordBatch, first_row: int) -> list[ImportedRow]:
    names = [name for name in ImportedRow.model_fields if name in batch.schema.names]
    try:
        return ROWS.validate_python(batch.select(names).to_pylist())
    except ValidationError as error:
        first = error.errors()[0]
        row, *path = first["loc"]
        raise _invalid(f"{first_row + int(row)}.{'.'.join(map(str, path))}", first["msg"]) from error


def _vectors(batch: pa.RecordBatch, table: EmbeddingTable | None, first_row: int) -> dict[int, np.ndarray[Any, Any]]:
    """The vectors (D,) of the rows that have one, by position."""
    if table is None:
        return {}
    column = batch.column("vector")
    positions = np.flatnonzero(np.asarray(column.is_valid()))
    h = np.asarray(column.drop_null().flatten(), np.float32).reshape(len(positions), table.size)
    if not (is_finite := np.isfinite(h).all(axis=1)).all():
        raise _invalid(f"{first_row + int(positions[~is_finite][0])}.vector", "finite numbers")
    return dict(zip(positions.tolist(), h, strict=True))


def _invalid(name: str, message: str) -> Invalid:
    return Invalid(f"{name}: {message}", errors=[{"field": name, "message": message}])


def _take(
    session: Session,
    rows: list[ImportedRow],
    h: dict[int, np.ndarray[Any, Any]],
    table: EmbeddingTable | None,
    collection: str,
    result: Imported,
) -> None:
    by_id = {row.id: (i, row) for i, row in enumerate(rows)}  # of equal ids, the last
    collection_id = ensure_collection(session, collection).id
    held = select(Image.id).where(Image.id == func.any(list(by_id))).order_by(Image.id)
    known = session.scalars(held.with_for_update(read=True, key_share=True)).all()
    _upsert(session, collection_id, [by_id[image_id][1] for image_id in known])
    if table is not None:
        there = text(f"select image_id from {vectors.table_name(table)} where image_id = any(:ids)")  # noqa: S608  # the name is made from an integer
        present = set(session.scalars(there, {"ids": list(known)}))
        new = [id_ for id_ in known if id_ not in present and by_id[id_][0] in h]
        if new:
            vectors.insert_vectors(session, table, new, np.stack([h[by_id[id_][0]] for id_ in new]))
        result.num_vectors += len(new)
    unknown = [row.id for row in rows if row.id not in set(known)]
    result.num_imported += len(rows) - len(unknown)
    result.num_unknown += len(unknown)
    result.unknown = (result.unknown + unknown)[:MAX_UNKNOWN_SHOWN]


def _upsert(session: Session, collection_id: str, rows: list[ImportedRow]) -> None:
    if not rows:
        return
    statement = insert(CollectionImage).values(
        [
            {
                "tenant": tenant_of(session),
                "collection_id": collection_id,
                "image_id": row.id,
                "label": row.label,
                "metadata_": row.metadata or {},
                "filename": row.filename,
            }
            for row in rows
        ]
    )
    given = statement.excluded
    upsert = statement.on_conflict_do_update(
        index_elements=["collection_id", "image_id"],
        set_={"label": given.label, "metadata": given["metadata"], "filename": given.filename},
    )
    session.execute(upsert)
