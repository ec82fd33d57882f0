"""Files that a command leaves behind: whole, or not at all."""

from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Write a file beside its place and move it there. Raises ValueError that names it if that can't be."""
    part = path.with_name(f"{path.name}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    except OSError as error:
        raise ValueError(f"{path}: can't be written: {error.strerror}") from error
