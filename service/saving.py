"""Files that a command leaves behind: whole, or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def write_whole(path: Path, content: bytes) -> None:
    """Write a file beside its place and move it there. Raises ValueError that names it if that can't be."""
    with whole_file(path) as file:
        file.write(content)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes its place when the block ends well. Raises ValueError that names it if it can't be."""
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            yield file
        part.replace(path)
    except OSError as error:
        raise ValueError(f"{path}: can't be written: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)
