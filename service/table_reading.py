"""Uploaded tables, read in a process of their own (service/table_process.py) that a hostile one may fill or crash."""

import json
import os
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pyarrow as pa

from service.core.errors import Invalid, ServiceError, TooLarge


def read_batches(path: Path, media_type: str, batch_rows: int) -> Generator[pa.RecordBatch]:
    """The rows of a file in batches of at most `batch_rows`; the first batch is empty and shows the columns.

    Raises TooLarge over a limit, Invalid for what is no table (`unreadable_table`).
    """
    # -P: modules come from the installation, not from the folder that the service was started in.
    command = [sys.executable, "-P", "-m", "service.table_process", str(os.getpid())]
    with subprocess.Popen(  # noqa: S603  # our own module
        [*command, str(path), media_type, str(batch_rows)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stderr
        try:
            try:
                yield from pa.ipc.open_stream(process.stdout)
            except (pa.ArrowException, OSError):  # it ended in the middle, and says why
                if process.wait() == 0:
                    raise
            if process.wait():
                raise _refusal(process.stderr.read(), media_type)
        finally:
            process.kill()


def _refusal(said: bytes, media_type: str) -> ServiceError:
    try:
        refusal = json.loads(said)
    except ValueError:  # it crashed, or was killed
        return Invalid(f"the file can't be read as {media_type}: its reader crashed", code="unreadable_table")
    if refusal["code"] == TooLarge.code:
        return TooLarge(refusal["detail"])
    if (field := refusal["field"]) is not None:
        return Invalid(f"{field}: {refusal['detail']}", errors=[{"field": field, "message": refusal["detail"]}])
    return Invalid(refusal["detail"], code=refusal["code"])
