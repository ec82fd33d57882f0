"""A collection as a table: ids, labels, metadata, file names and, if asked for, the vectors of a model's layer.

It is read a page at a time, each in a transaction of its own, so neither a client that reads slowly nor a large
collection holds anything. An image that changes meanwhile is as it was when its page was read.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from sqlalchemy import text
from sqlalchemy.orm import Session

from service.core.db import Database
from service.core.members import Members
from service.core.tables import EmbeddingTable
from service.core.vectors import table_name, vector_of

PAGE_ROWS = 1000
PAGE_VALUES = 1_000_000  # of the vectors of a page: 4 MB
MODEL, LAYER = b"simclr.model", b"simclr.layer"  # of the schema's metadata: whose the vectors are

COLUMNS = [pa.field(name, pa.string()) for name in ("id", "label", "metadata", "filename")]


def export_schema(table: EmbeddingTable | None) -> pa.Schema:
    """The columns; `metadata` is JSON, `vector` is null where an image has none."""
    if table is None:
        return pa.schema(COLUMNS)
    vector = pa.field("vector", pa.list_(pa.float32(), table.size))
    return pa.schema([*COLUMNS, vector], {MODEL: table.model_id.encode(), LAYER: table.layer.encode()})


def export_batches(database: Database, members: Members, table: EmbeddingTable | None) -> Iterator[pa.RecordBatch]:
    """The rows in order of id."""
    limit = min(PAGE_ROWS, max(1, PAGE_VALUES // table.size)) if table else PAGE_ROWS
    after = ""
    while True:
        with database.transaction() as session:
            rows = _page(session, members, table, after, limit)
        if rows:
            yield _batch(rows, table)
        if len(rows) < limit:
            return
        after = rows[-1].image_id


def _page(session: Session, members: Members, table: EmbeddingTable | None, after: str, limit: int) -> Sequence[Any]:
    vectors = f"left join {table_name(table)} v on v.image_id = c.image_id" if table else ""
    statement = f"""
        select c.image_id, c.label, c.metadata, c.filename, {"vector_send(v.h)" if table else "null"} as sent
        from collection_image c {vectors}
        where {members.where} and c.image_id > :after order by c.image_id limit {limit:d}
    """  # noqa: S608  # its values are parameters
    return session.execute(text(statement), {**members.parameters, "after": after}).all()


def _batch(rows: Sequence[Any], table: EmbeddingTable | None) -> pa.RecordBatch:
    said = [(row.image_id, row.label, json.dumps(row.metadata), row.filename) for row in rows]
    columns = [pa.array(column, pa.string()) for column in zip(*said, strict=True)]
    if table is not None:
        zeros = np.zeros(table.size, np.float32)
        h = np.concatenate([zeros if row.sent is None else vector_of(row.sent) for row in rows])
        is_missing = pa.array([row.sent is None for row in rows])
        columns.append(pa.FixedSizeListArray.from_arrays(h, table.size, mask=is_missing))
    return pa.record_batch(columns, export_schema(table))
