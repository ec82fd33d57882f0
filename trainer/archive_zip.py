"""Read a zip by its central directory: stored and deflated files. Everything else is refused.

The standard library's zipfile builds an object for every entry before any limit can apply, and until 3.11.8 it read
overlapping entries, the trick that unpacks kilobytes to terabytes.

    local header, content | ... | central directory | zip64 end, its locator | end record, comment
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from stat import S_IFDIR, S_IFMT, S_IFREG
from typing import BinaryIO

from trainer.archive_limits import ArchiveError, Meter

END = struct.Struct("<4s4H2LH")
END64_LOCATOR = struct.Struct("<4sLQL")
END64 = struct.Struct("<4sQ2H2L4Q")
CENTRAL = struct.Struct("<4s6H3L5H2L")
LOCAL = struct.Struct("<4s5H3L2H")

MAX_COMMENT = 0xFFFF
ZIP64 = 0xFFFFFFFF  # in a 32-bit field: the value stands in the zip64 record
UTF8 = 0x800
ENCRYPTED = 0x2041  # plain, strong, or of the directory itself
STORED, DEFLATED = 0, 8


@dataclass(frozen=True)
class _Entry:
    name: str
    method: int
    crc: int
    packed_bytes: int
    num_bytes: int
    offset: int  # of the local header


def read_zip(file: BinaryIO, meter: Meter) -> Iterator[tuple[str, bytes | None]]:
    """Each member's name and content, None for a folder. Raises ArchiveError."""
    num_entries, start, end = _directory(file)
    entries = list(_entries(file, num_entries, start, end, meter))
    offsets = sorted(entry.offset for entry in entries)
    if len(set(offsets)) < len(offsets):
        raise ArchiveError("too_large", "entries of the zip share their content: it unpacks the same bytes twice")
    next_offset = dict(pairwise([*offsets, start]))
    for entry in entries:
        if entry.name.endswith("/"):
            yield entry.name, None
        else:
            yield entry.name, _content(file, entry, next_offset[entry.offset], meter)


def _corrupt(what: str) -> ArchiveError:
    return ArchiveError("corrupt_archive", f"the zip is damaged: {what}")


def _unpack(layout: struct.Struct, content: bytes, signature: bytes) -> tuple[int, ...]:
    if len(content) < layout.size or not content.startswith(signature):
        raise _corrupt(f"no record {signature!r} where one must be")
    return layout.unpack(content[: layout.size])[1:]


def _directory(file: BinaryIO) -> tuple[int, int, int]:
    """Number of entries, start and end of the central directory."""
    file_bytes = file.seek(0, 2)
    tail_start = max(0, file_bytes - END.size - MAX_COMMENT)
    file.seek(tail_start)
    tail = file.read()
    at = tail.rfind(b"PK\5\6")
    disk, _, _, num_entries, size, start, _ = _unpack(END, tail[max(at, 0) :], b"PK\5\6")
    if disk not in {0, 0xFFFF}:
        raise ArchiveError("unsupported_archive", "the zip is split over several files; upload it as one")
    if num_entries == 0xFFFF or ZIP64 in {size, start}:
        file.seek(max(0, tail_start + at - END64_LOCATOR.size))
        _, end64, _ = _unpack(END64_LOCATOR, file.read(END64_LOCATOR.size), b"PK\6\7")
        file.seek(min(end64, file_bytes))
        *_, num_entries, size, start = _unpack(END64, file.read(END64.size), b"PK\6\6")
    if start + size > tail_start + at:
        raise _corrupt("its directory lies outside of the file")
    return num_entries, start, start + size


def _entries(file: BinaryIO, num_entries: int, start: int, end: int, meter: Meter) -> Iterator[_Entry]:
    file.seek(start)
    for _ in range(num_entries):
        meter.entry()
        fields = _unpack(CENTRAL, file.read(CENTRAL.size), b"PK\1\2")
        _, _, flags, method, _, _, crc, packed_bytes, num_bytes = fields[:9]
        name_bytes, extra_bytes, comment_bytes, _, _, attributes, offset = fields[9:]
        name = _decode(file.read(name_bytes), flags)
        wide = _zip64_values(file.read(extra_bytes))
        num_bytes, packed_bytes, offset = (
            next(wide, ZIP64) if value == ZIP64 else value for value in (num_bytes, packed_bytes, offset)
        )
        file.seek(comment_bytes, 1)
        if offset > start:
            raise _corrupt(f"{name!r} lies outside of the file")
        _refuse_unusual(name, flags, method, attributes >> 16)
        yield _Entry(name, method, crc, packed_bytes, num_bytes, offset)
    if file.tell() != end:
        raise _corrupt("its directory has another length than it says")


def _refuse_unusual(name: str, flags: int, method: int, mode: int) -> None:
    if flags & ENCRYPTED:
        raise ArchiveError("unsupported_archive", f"{name!r} is encrypted; upload the archive without a password")
    if S_IFMT(mode) not in {0, S_IFREG, S_IFDIR}:
        raise ArchiveError("unsafe_member", f"{name!r} is a link or a device; pack plain files only")
    if method not in {STORED, DEFLATED}:
        raise ArchiveError("unsupported_archive", f"{name!r} is compressed by method {method}; use deflate or none")


def _zip64_values(extra: bytes) -> Iterator[int]:
    """The 64-bit values of an entry's zip64 record, of those fields that overflow, in this order."""
    at = 0
    while at + 4 <= len(extra):
        kind, size = struct.unpack_from("<2H", extra, at)
        if kind == 1:
            usable = min(size, len(extra) - at - 4) // 8
            yield from struct.unpack_from(f"<{usable}Q", extra, at + 4)
        at += 4 + size


def _decode(name: bytes, flags: int) -> str:
    """UTF-8 if marked so or, as many tools forget the mark, if it is; else the format's old code page."""
    try:
        return name.decode()
    except UnicodeDecodeError:
        if flags & UTF8:
            raise _corrupt("a name is marked as UTF-8 and isn't") from None
        return name.decode("cp437")


def _content(file: BinaryIO, entry: _Entry, next_offset: int, meter: Meter) -> bytes:
    meter.admit(entry.name, entry.num_bytes)
    meter.unpacked(entry.num_bytes)
    meter.content(entry.num_bytes)
    file.seek(entry.offset)
    *_, name_bytes, extra_bytes = _unpack(LOCAL, file.read(LOCAL.size), b"PK\3\4")
    file.seek(name_bytes + extra_bytes, 1)
    if file.tell() + entry.packed_bytes > next_offset:
        raise ArchiveError("too_large", f"{entry.name!r} overlaps the next entry: the zip unpacks the same bytes twice")
    packed = file.read(min(entry.packed_bytes, 2 * entry.num_bytes + 64))  # honest deflate never doubles
    content = packed if entry.method == STORED else _inflate(packed, entry)
    if len(content) != entry.num_bytes or zlib.crc32(content) != entry.crc:
        raise _corrupt(f"{entry.name!r} has another length or checksum than it says")
    return content


def _inflate(packed: bytes, entry: _Entry) -> bytes:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        content = inflater.decompress(packed, entry.num_bytes + 1)
    except zlib.error as error:
        raise _corrupt(f"{entry.name!r} can't be unpacked") from error
    if len(content) > entry.num_bytes:
        raise ArchiveError("too_large", f"{entry.name!r} unpacks to more than the {entry.num_bytes} bytes it says")
    return content
