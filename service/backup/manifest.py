"""What a snapshot consists of, and that it still is what was written."""

import hashlib
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from models.config import Frozen
from service.backup.errors import Damaged
from service.saving import write_whole

FILE, SUM_FILE = "manifest.json", "manifest.sha256"


class Blob(NamedTuple):
    """A blob's content."""

    sha256: str
    num_bytes: int


class Sequence(Frozen):
    """A column whose values the database counts, and how far it has counted."""

    column: str
    last_value: int


class Table(Frozen):
    """A table's rows and, unless migrations make it, the statements that do."""

    name: str
    columns: list[str]
    num_rows: int
    sha256: str
    sequence: Sequence | None = None
    create: tuple[str, ...] = ()
    indexes: tuple[str, ...] = ()


class Manifest(Frozen):
    """A snapshot."""

    format: int = 1
    made_at: str
    release: str
    revision: str
    tables: list[Table]
    blobs: dict[str, Blob]
    lost: dict[str, str]  # what rows name and the storage didn't have as they say, and why

    @property
    def num_bytes(self) -> int:
        """Of all blobs."""
        return sum(blob.num_bytes for blob in self.blobs.values())


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write it, and its sum."""
    content = manifest.model_dump_json().encode()
    write_whole(folder / FILE, content)
    write_whole(folder / SUM_FILE, f"{hashlib.sha256(content).hexdigest()}  {FILE}\n".encode())


def read_manifest(folder: Path) -> Manifest:
    """What `write_manifest` wrote. Raises Damaged."""
    try:
        content = (folder / FILE).read_bytes()
        expected = (folder / SUM_FILE).read_text(errors="replace").partition(" ")[0]
    except FileNotFoundError as error:
        raise Damaged(f"{error.filename} is missing") from error
    if hashlib.sha256(content).hexdigest() != expected:
        raise Damaged(f"{folder / FILE} has another sha256 than {SUM_FILE} says")
    try:
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        raise Damaged(f"{folder / FILE} is another release's: {error.errors()[0]['msg']}") from error
