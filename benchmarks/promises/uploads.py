"""Uploads, while the API and PostgreSQL are killed."""

from pathlib import Path

import upload_crashes
from promises.ledger import Ledger

ROUNDS = 3  # both, PostgreSQL, the API


def measure(ledger: Ledger, folder: Path, seed: int) -> None:
    """Upload and kill; enter what became of what was acknowledged."""
    found = upload_crashes.run(folder, ROUNDS, seed)
    of_all = f"of {found['acknowledged']}"
    ledger.none("lost_uploads", "no acknowledged upload is lost", found["lost"], of=of_all)
    half = found["incomplete"] + found["vectors_without_row"]
    ledger.none("half_uploads", "no upload is half there: row, bytes, vector", half, of=of_all)
    ledger.note(failed_uploads=found["failed"])
