"""Read a tar as a stream: regular files and folders, ustar, GNU long names and pax. Everything else is refused.

The standard library's tarfile reads a metadata block of any declared size into memory, searches it with expressions
that take quadratic time, and expands sparse files; none of that can be limited from outside. The format is small: each
member is a header block, where `offset field bytes` are

    0 name 100    124 size 12    148 checksum 8    156 type 1    257 magic 8    345 prefix 155

and its content, both padded to blocks of 512 bytes; two blocks of zeros mark the end.
"""

import re
from collections.abc import Iterator
from typing import BinaryIO

from trainer.archive_limits import ArchiveError, Meter

BLOCK = 512
MAX_METADATA_BYTES = 64 * 1024  # of one long name or pax header
CHUNK = 2**20

FILES = (b"0", b"\0", b"7")
FOLDER = b"5"
LONG_NAME, PAX, PAX_GLOBAL = b"L", b"x", b"g"
MEMBERS = (*FILES, FOLDER)
METADATA = (LONG_NAME, PAX, PAX_GLOBAL)

NOT_A_TAR = ("not_an_archive", "the file is no zip, tar, tar.gz or tar.zst")
BAD_HEADER = ("corrupt_archive", "a header in the tar is damaged")


def read_tar(stream: BinaryIO, meter: Meter) -> Iterator[tuple[str, bytes | None]]:
    """Each member's name and content, None for a folder. Raises ArchiveError."""
    pax: dict[str, bytes] = {}
    for header in _headers(stream, meter):
        kind, size = header[156:157], _number(header[124:136])
        if kind in METADATA:
            block = _metadata(stream, size, meter)
            if kind == LONG_NAME:
                pax["path"] = block.removesuffix(b"\0")
            elif kind == PAX:
                pax |= _pax_records(block)
            continue
        name = _decode(pax.get("path", _name(header)))
        if kind not in MEMBERS or any(key.startswith("GNU.sparse.") for key in pax):
            raise ArchiveError("unsafe_member", f"{name!r} is a link, a device or a sparse file; pack plain files only")
        size = _decimal(pax["size"]) if "size" in pax else size
        pax = {}
        if kind == FOLDER:
            yield name, None
            continue
        meter.admit(name, size)
        content = _take(stream, size, meter)
        meter.content(size)
        _take(stream, -size % BLOCK, meter)
        yield name, None if name.endswith("/") else content  # before POSIX, a folder was a file so named


def _headers(stream: BinaryIO, meter: Meter) -> Iterator[bytes]:
    """The header blocks; the caller reads what follows each. After the end mark the rest is read, to check its sums."""
    is_first = True
    while any(header := _take(stream, BLOCK, meter)):
        if not _checksum_is_right(header):
            raise ArchiveError(*(NOT_A_TAR if is_first else BAD_HEADER))
        meter.entry()
        is_first = False
        yield header
    while rest := stream.read(CHUNK):
        meter.unpacked(len(rest))


def _checksum_is_right(header: bytes) -> bool:
    if not re.fullmatch(rb"[ \0]*[0-7]+[ \0]*", header[148:156]):
        return False
    return int(header[148:156].strip(b" \0"), 8) == sum(header[:148]) + 8 * ord(" ") + sum(header[156:])


def _take(stream: BinaryIO, num_bytes: int, meter: Meter) -> bytes:
    meter.unpacked(num_bytes)
    content = stream.read(num_bytes)
    if len(content) < num_bytes:
        raise ArchiveError("corrupt_archive", "the archive ends in the middle; it was cut short")
    return content


def _metadata(stream: BinaryIO, size: int, meter: Meter) -> bytes:
    if size > MAX_METADATA_BYTES:
        raise ArchiveError("too_large", f"a tar header has {size} bytes, at most {MAX_METADATA_BYTES} are allowed")
    block = _take(stream, size, meter)
    _take(stream, -size % BLOCK, meter)
    return block


def _number(field: bytes) -> int:
    """A size: octal digits, or, from GNU tar, big-endian after a byte 0x80."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:])
    digits = field.strip(b" \0")
    if not re.fullmatch(rb"[0-7]*", digits):
        raise ArchiveError(*BAD_HEADER)
    return int(digits or b"0", 8)


def _decimal(digits: bytes) -> int:
    if not re.fullmatch(rb"[0-9]{1,19}", digits):
        raise ArchiveError(*BAD_HEADER)
    return int(digits)


def _name(header: bytes) -> bytes:
    name, prefix = (header[start:end].split(b"\0", 1)[0] for start, end in ((0, 100), (345, 500)))
    has_prefix = header[257:263] == b"ustar\0" and prefix  # GNU tar keeps instants where POSIX has the prefix
    return prefix + b"/" + name if has_prefix else name


def _pax_records(block: bytes) -> dict[str, bytes]:
    r"""The records of a pax header, each `LENGTH KEY=VALUE\n` where LENGTH counts the whole record."""
    records = {}
    start = 0
    while start < len(block):
        length, space, _ = block[start : start + 8].partition(b" ")
        end = start + (_decimal(length) if space else 0)
        record = block[start + len(length) + 1 : end]
        if not record.endswith(b"\n") or end > len(block):
            raise ArchiveError(*BAD_HEADER)
        key, _, value = record[:-1].partition(b"=")
        records[key.decode("utf-8", "replace")] = value
        start = end
    return records


def _decode(name: bytes) -> str:
    """UTF-8 where it is; else Latin-1, so that different bytes stay different names."""
    try:
        return name.decode()
    except UnicodeDecodeError:
        return name.decode("latin-1")
