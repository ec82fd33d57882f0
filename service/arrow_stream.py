"""Tables as Arrow streams and Parquet files, written batch by batch while they are sent."""

from collections.abc import Iterator

import pyarrow as pa
from pyarrow import parquet

ARROW, PARQUET = "application/vnd.apache.arrow.stream", "application/vnd.apache.parquet"


class _Outbox:
    """A file that keeps what was written until it is taken."""

    closed = False

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, part: bytes) -> int:
        self._parts.append(bytes(part))
        return len(part)

    def take(self) -> bytes:
        """What was written since the last time."""
        taken = b"".join(self._parts)
        self._parts.clear()
        return taken

    def flush(self) -> None:
        """Everything is at hand already."""

    def close(self) -> None:
        """What was written can still be taken."""


def stream(batches: Iterator[pa.RecordBatch], schema: pa.Schema, media_type: str) -> Iterator[bytes]:
    """The batches in one of the two forms; no more than one is in memory."""
    outbox = _Outbox()
    sink = pa.PythonFile(outbox, mode="w")
    writer = pa.ipc.new_stream(sink, schema) if media_type == ARROW else parquet.ParquetWriter(sink, schema)
    with writer:
        for batch in batches:
            writer.write_batch(batch)
            yield outbox.take()
    yield outbox.take()
