"""Read an uploaded archive safely: zip, tar, tar.gz, tar.zst, known by their first bytes and not by their name.

Members come one by one as bytes and nothing is written to disk, so that no name can lead anywhere. Any member that
asks for trust (an absolute name, a link, a size that lies) refuses the whole archive.
"""

import gzip
import io
import re
import unicodedata
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

import zstandard

from trainer.archive_limits import ArchiveError, ArchiveLimits, Meter
from trainer.archive_tar import BLOCK, NOT_A_TAR, read_tar
from trainer.archive_zip import read_zip

MAX_NAME_LENGTH = 1024  # characters
MAX_ZSTD_WINDOW = 128 * 2**20  # bytes; what `zstd -d` takes without being asked to
JUNK = ("__MACOSX", "Thumbs.db", "desktop.ini")


def read_members(path: Path, limits: ArchiveLimits) -> Iterator[tuple[str, bytes]]:
    """The safe name and content of every file, in the archive's order, without what operating systems leave behind.

    Raises ArchiveError, possibly after the first members: use nothing of an archive before its end has been seen.
    """
    seen = set()
    with path.open("rb") as file:
        meter = Meter(limits, packed_bytes=path.stat().st_size)
        for raw_name, content in _entries(file, meter):
            name = safe_name(raw_name)
            if content is None:
                continue
            if not name:
                raise ArchiveError("unsafe_path", f"{raw_name!r} names no file")
            if name in seen:
                raise ArchiveError("duplicate_path", f"{name!r} is in the archive twice")
            seen.add(name)
            if not is_junk(name):
                yield name, content


def safe_name(name: str) -> str:
    """A member's path in Unicode NFC, without empty and `.` parts. Raises ArchiveError `unsafe_path`."""
    parts = name.split("/")
    clean = "/".join(part for part in parts if part not in {"", "."})
    if (
        name.startswith("/")
        or ".." in parts
        or {"\\", "\0"} & set(name)
        or re.match("[A-Za-z]:", clean)
        or len(name) > MAX_NAME_LENGTH
    ):
        allowed = f"relative paths of at most {MAX_NAME_LENGTH} characters without .., backslash, NUL or drive letter"
        raise ArchiveError("unsafe_path", f"{name[:100]!r} is no safe path; allowed are {allowed}")
    return unicodedata.normalize("NFC", clean)


def is_junk(name: str) -> bool:
    """Whether a path is hidden (.DS_Store, AppleDouble ._x) or another thing that nobody packs on purpose."""
    return any(part.startswith(".") or part in JUNK for part in name.split("/"))


def _entries(file: BinaryIO, meter: Meter) -> Iterator[tuple[str, bytes | None]]:
    magic = file.read(4)
    file.seek(0)
    if magic in {b"PK\3\4", b"PK\5\6"}:
        yield from read_zip(file, meter)
        return
    try:
        if magic[:2] == b"\x1f\x8b":
            yield from read_tar(cast("BinaryIO", gzip.GzipFile(fileobj=file)), meter)
        elif magic == zstandard.FRAME_HEADER:
            yield from read_tar(_zstd(file), meter)
        elif file.seek(0, io.SEEK_END) < BLOCK:
            raise ArchiveError(*NOT_A_TAR)
        else:
            file.seek(0)
            yield from read_tar(file, meter)
    except (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError) as error:
        raise ArchiveError("corrupt_archive", f"the archive can't be unpacked: {error}") from error


def _zstd(file: BinaryIO) -> BinaryIO:
    window = zstandard.get_frame_parameters(file.read(18)).window_size
    file.seek(0)
    if window > MAX_ZSTD_WINDOW:
        raise ArchiveError("too_large", f"the zstd window has {window} bytes, at most {MAX_ZSTD_WINDOW} are allowed")
    decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_ZSTD_WINDOW)
    reader = decompressor.stream_reader(file, read_across_frames=True, closefd=False)
    return io.BufferedReader(cast("io.RawIOBase", reader), buffer_size=2**18)
