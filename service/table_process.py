"""The process that reads hostile tables: an uploaded file in, an Arrow stream of small plain batches out.

    python -m service.table_process PARENT_PID PATH MEDIA_TYPE BATCH_ROWS

Parquet and Arrow compress and repeat: a thousandth of a file may be all that a value takes in it. So it is unpacked
under a limit of memory. Texts leave as plain strings, so that what a batch takes here is what it takes elsewhere. A
refusal is a line of JSON on stderr, {"code", "field", "detail"}, and the exit status 1.
"""

import json
import resource
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from service.arrow_stream import ARROW
from service.core.child import die_with_parent

MEMORY_BYTES = 2**29  # above what the process has at its start, and the file itself
MAX_BATCH_BYTES = 2**26
ID_BYTES = 32  # of an image's id: a sha256, which nothing makes smaller
TEXTS = ("id", "label", "metadata", "filename")
COLUMNS = (*TEXTS, "vector")


class Refused(Exception):
    """The file is over a limit, or no such table."""

    def __init__(self, code: str, detail: str, field: str | None = None) -> None:
        super().__init__(code, detail, field)
        self.line = json.dumps({"code": code, "field": field, "detail": detail})


def main() -> int:
    """Write the table to stdout; the exit status."""
    parent_pid, path, media_type, batch_rows = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    die_with_parent(parent_pid, signal.SIGKILL)
    pa.set_memory_pool(pa.system_memory_pool())  # others reserve more than they use, and then abort
    pa.set_io_thread_count(1)
    _limit_memory(path.stat().st_size)
    try:
        _copy(path, media_type, batch_rows)
    except Refused as refusal:
        sys.stderr.write(refusal.line)
    except MemoryError:  # Arrow's own is one of these
        detail = f"reading the table takes more than {MEMORY_BYTES:,} bytes of memory"
        sys.stderr.write(Refused("too_large", detail).line)
    except (pa.ArrowException, OSError) as error:
        message = str(error).partition("\n")[0][:300]
        sys.stderr.write(Refused("unreadable_table", f"the file can't be read as {media_type}: {message}").line)
    else:
        return 0
    return 1


def _limit_memory(file_bytes: int) -> None:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * resource.getpagesize() + file_bytes + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _copy(path: Path, media_type: str, batch_rows: int) -> None:
    max_rows = path.stat().st_size // ID_BYTES
    schema, batches = _open(path, media_type, batch_rows)
    plain = _plain(schema)
    num_rows = 0
    with pa.ipc.new_stream(sys.stdout.buffer, plain) as writer:
        writer.write_batch(pa.record_batch([pa.array([], field.type) for field in plain], plain))
        for batch in batches:
            num_rows += batch.num_rows
            if num_rows > max_rows:
                detail = f"more rows than ids fit in the file: {max_rows:,}, of {ID_BYTES} bytes each"
                raise Refused("too_large", detail)
            cast = batch.select(plain.names).cast(plain)
            if cast.nbytes > MAX_BATCH_BYTES:
                raise Refused("too_large", f"{batch.num_rows:,} rows take more than {MAX_BATCH_BYTES:,} bytes")
            writer.write_batch(cast)


def _open(path: Path, media_type: str, batch_rows: int) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    if media_type == ARROW:
        reader = pa.ipc.open_stream(pa.memory_map(str(path)))
        parts = (batch.slice(i, batch_rows) for batch in reader for i in range(0, batch.num_rows, batch_rows))
        return reader.schema, parts
    file = parquet.ParquetFile(path, memory_map=True, pre_buffer=False)
    names = [name for name in COLUMNS if name in file.schema_arrow.names]
    return file.schema_arrow, file.iter_batches(batch_size=batch_rows, columns=names, use_threads=False)


def _plain(schema: pa.Schema) -> pa.Schema:
    """The columns that count; those of texts as strings, whatever form of them the file has."""
    fields = []
    for name in (name for name in COLUMNS if name in schema.names):
        field = schema.field(name)
        if name in TEXTS:
            if not _is_text(field.type):
                raise Refused("invalid", f"a column of strings, not {field.type}", name)
            field = pa.field(name, pa.string())
        fields.append(field)
    return pa.schema(fields, schema.metadata)


def _is_text(type_: pa.DataType) -> bool:
    if pa.types.is_dictionary(type_):
        return _is_text(type_.value_type)
    kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
    return any(is_kind(type_) for is_kind in kinds)


if __name__ == "__main__":
    sys.exit(main())
