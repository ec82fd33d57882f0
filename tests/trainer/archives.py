"""Archives for tests: plain ones, and one of every hostile kind with the code that must refuse it."""

import gzip
import io
import os
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterable

import zstandard

Members = Iterable[tuple[str, bytes]]

LIMITS = {"max_bytes": 4 * 2**20, "max_member_bytes": 2 * 2**20, "max_ratio": 100, "max_entries": 50}


def make_tar(members: Members, *, pax: dict[str, str] | None = None, **fields: object) -> bytes:
    """A tar; `fields` are set on every TarInfo, `pax` are records of its extended header."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            info.pax_headers = pax or {}
            for field, value in fields.items():
                setattr(info, field, value)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def make_zip(members: Members, *, mode: int = 0o100644, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip whose entries have a Unix mode."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name, content in members:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            info.compress_type = method
            file.writestr(info, content)
    return buffer.getvalue()


def make_gz(content: bytes) -> bytes:
    """Gzip without the time, so that the same content gives the same bytes."""
    return gzip.compress(content, mtime=0)


def make_zst(content: bytes) -> bytes:
    """Zstandard with a checksum, as its command line tool writes it."""
    return zstandard.ZstdCompressor(write_checksum=True).compress(content)


def patched(content: bytes, at: int, replacement: bytes) -> bytes:
    """`content` with other bytes at `at`; negative positions count from the end."""
    at %= len(content)
    return content[:at] + replacement + content[at + len(replacement) :]


def in_directory(archive: bytes, offset: int, replacement: bytes) -> bytes:
    """A zip whose first central directory entry has other bytes at `offset`."""
    return patched(archive, archive.index(b"PK\1\2") + offset, replacement)


def rechecked(tar: bytes) -> bytes:
    """A tar whose first header has the right checksum again."""
    header = tar[:148] + b" " * 8 + tar[156:512]
    return patched(tar, 148, b"%06o\0 " % sum(header))


ONE = [("train/cat/1.png", b"content")]
TARGET = "/etc/passwd"
TWO = [("a/1.png", b"one" * 100), ("b/2.png", b"two" * 100)]
NOISE = os.urandom(4096)


def _sharing_one_entry() -> bytes:
    """Two central entries for one local one."""
    archive = make_zip([("a.png", NOISE), ("b.png", NOISE)])
    second = archive.rindex(b"PK\1\2")
    return patched(archive, second + 42, struct.pack("<L", 0))


def _quoting() -> bytes:
    """The first entry's stored content holds the second entry, header and all."""
    inner = make_zip([("b.png", NOISE)], method=zipfile.ZIP_STORED)
    local = inner[: inner.index(b"PK\1\2")]
    archive = make_zip([("a.png", local), ("b.png", NOISE)], method=zipfile.ZIP_STORED)
    second = archive.rindex(b"PK\1\2")
    return patched(archive, second + 42, struct.pack("<L", 30 + len("a.png")))


def _sparse() -> bytes:
    info = tarfile.TarInfo("a.png")
    info.type = tarfile.GNUTYPE_SPARSE
    return rechecked(info.tobuf(tarfile.GNU_FORMAT)) + bytes(1024)


def _huge_pax_header() -> bytes:
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, 2**30
    return info.tobuf() + bytes(1024)


def _bad_pax_record() -> bytes:
    good = make_tar([("a" * 200, b"x")], pax={"comment": "x"})
    return good.replace(b" path=", b"9path=")


HOSTILE: dict[str, tuple[str, Callable[[], bytes]]] = {
    "tar, absolute name": ("unsafe_path", lambda: make_tar([("/etc/1.png", b"")])),
    "tar, name that climbs": ("unsafe_path", lambda: make_tar([("a/../../1.png", b"")])),
    "tar, folder that climbs": ("unsafe_path", lambda: make_tar([("../a/", b"")], type=tarfile.DIRTYPE)),
    "tar, backslash": ("unsafe_path", lambda: make_tar([("..\\1.png", b"")])),
    "tar, drive letter": ("unsafe_path", lambda: make_tar([("C:/1.png", b"")])),
    "tar, NUL in a pax path": ("unsafe_path", lambda: make_tar([("x", b"")], pax={"path": "a.png\0.sh"})),
    "tar, name that climbs in a pax path": ("unsafe_path", lambda: make_tar([("x", b"")], pax={"path": "../1.png"})),
    "tar, endless name": ("unsafe_path", lambda: make_tar([("a/" * 3000 + "1.png", b"")])),
    "tar, file without a name": ("unsafe_path", lambda: make_tar([(".", b"x")])),
    "tar, symbolic link": ("unsafe_member", lambda: make_tar(ONE, type=tarfile.SYMTYPE, linkname=TARGET, size=0)),
    "tar, hard link": ("unsafe_member", lambda: make_tar(ONE, type=tarfile.LNKTYPE, linkname=TARGET, size=0)),
    "tar, long link": ("unsafe_member", lambda: make_tar(ONE, type=tarfile.SYMTYPE, linkname="../" * 60, size=0)),
    "tar, device": ("unsafe_member", lambda: make_tar(ONE, type=tarfile.CHRTYPE, size=0)),
    "tar, pipe": ("unsafe_member", lambda: make_tar(ONE, type=tarfile.FIFOTYPE, size=0)),
    "tar, sparse file": ("unsafe_member", _sparse),
    "tar, sparse file by pax": ("unsafe_member", lambda: make_tar(ONE, pax={"GNU.sparse.realsize": "99999999"})),
    "tar, same name twice": ("duplicate_path", lambda: make_tar([*ONE, *ONE])),
    "tar, same name after NFC": ("duplicate_path", lambda: make_tar([("é.png", b"1"), ("e\u0301.png", b"2")])),
    "tar, same name after ./": ("duplicate_path", lambda: make_tar([("a.png", b"1"), ("./a.png", b"2")])),
    "tar, cut in a member": ("corrupt_archive", lambda: make_tar(TWO)[:700]),
    "tar, cut between members": ("corrupt_archive", lambda: make_tar(TWO)[:1024]),
    "tar, damaged second header": ("corrupt_archive", lambda: patched(make_tar(TWO), 1030, b"?")),
    "tar, size in no digits": ("corrupt_archive", lambda: rechecked(patched(make_tar(ONE), 124, b"-0000000001"))),
    "tar, bad pax record": ("corrupt_archive", _bad_pax_record),
    "tar, huge pax header": ("too_large", _huge_pax_header),
    "tar, member over the limit": ("too_large", lambda: make_tar([("1.png", bytes(2**21 + 1))])),
    "tar, huge size that lies": ("too_large", lambda: rechecked(patched(make_tar(ONE), 124, b"\x80\0\0\7" + bytes(8)))),
    "tar, all over the limit": ("too_large", lambda: make_tar((f"{i}.png", bytes(2**20)) for i in range(5))),
    "tar, too many entries": ("too_large", lambda: make_tar((f"{i}.png", b"") for i in range(51))),
    "tar.gz, bomb by ratio": ("too_large", lambda: make_gz(make_tar([("1.png", bytes(2**21))]))),
    "tar.gz, bomb behind the end": ("too_large", lambda: make_gz(make_tar(ONE) + bytes(2**23))),
    "tar.gz, cut": ("corrupt_archive", lambda: make_gz(make_tar(TWO))[:-20]),
    "tar.gz, bad checksum": ("corrupt_archive", lambda: patched(make_gz(make_tar(TWO)), -8, b"????")),
    "tar.gz, no tar in it": ("not_an_archive", lambda: make_gz(b"<html>" * 1000)),
    "tar.zst, damaged": ("corrupt_archive", lambda: patched(make_zst(make_tar([("1.png", NOISE)])), 300, b"????")),
    "tar.zst, cut": ("corrupt_archive", lambda: make_zst(make_tar([("1.png", NOISE)]))[:2000]),
    "tar.zst, huge window": ("too_large", lambda: bytes.fromhex("28b52ffd00a8") + bytes(64)),
    "zip, absolute name": ("unsafe_path", lambda: make_zip([("/etc/1.png", b"")])),
    "zip, name that climbs": ("unsafe_path", lambda: make_zip([("a/../../1.png", b"")])),
    "zip, backslash": ("unsafe_path", lambda: make_zip([("a!1.png", b"")]).replace(b"a!1", b"a\\1")),
    "zip, NUL": ("unsafe_path", lambda: make_zip([("a!.png", b"")]).replace(b"a!", b"a\0")),
    "zip, symbolic link": ("unsafe_member", lambda: make_zip(ONE, mode=0o120777)),
    "zip, device": ("unsafe_member", lambda: make_zip(ONE, mode=0o020666)),
    "zip, same name after NFC": ("duplicate_path", lambda: make_zip([("é.png", b"1"), ("e\u0301.png", b"2")])),
    "zip, encrypted": ("unsupported_archive", lambda: in_directory(make_zip(ONE), 8, b"\1\0")),
    "zip, LZMA": ("unsupported_archive", lambda: make_zip(ONE, method=zipfile.ZIP_LZMA)),
    "zip, split": ("unsupported_archive", lambda: patched(make_zip(ONE), -18, b"\1\0")),
    "zip, entries share their content": ("too_large", _sharing_one_entry),
    "zip, entry inside an entry": ("too_large", _quoting),
    "zip, says less than it unpacks to": ("too_large", lambda: in_directory(make_zip(TWO), 24, b"\x0a\0\0\0")),
    "zip, says more than it unpacks to": ("corrupt_archive", lambda: in_directory(make_zip(TWO), 24, b"\xff\xff\0\0")),
    "zip, bomb by ratio": ("too_large", lambda: make_zip([("1.png", bytes(2**21))])),
    "zip, member over the limit": ("too_large", lambda: make_zip([("1.png", bytes(2**21 + 1))])),
    "zip, too many entries": ("too_large", lambda: make_zip((f"{i}.png", b"") for i in range(51))),
    "zip, wrong checksum": ("corrupt_archive", lambda: in_directory(make_zip(TWO), 16, b"????")),
    "zip, damaged content": ("corrupt_archive", lambda: patched(make_zip(TWO), 40, b"\xff\xff")),
    "zip, offset outside": ("corrupt_archive", lambda: in_directory(make_zip(TWO), 42, b"\xff\xff\xff\x7f")),
    "zip, directory outside": ("corrupt_archive", lambda: patched(make_zip(TWO), -6, b"\xff\xff\xff\x7f")),
    "zip, fewer entries than it has": ("corrupt_archive", lambda: patched(make_zip(TWO), -12, b"\1\0")),
    "zip, cut": ("corrupt_archive", lambda: make_zip(TWO)[:-30]),
    "nothing": ("not_an_archive", lambda: b""),
    "random bytes": ("not_an_archive", lambda: NOISE),
    "a web page": ("not_an_archive", lambda: b"<!doctype html>" * 100),
    "rar": ("not_an_archive", lambda: b"Rar!\x1a\7\1\0" + NOISE),
    "7z": ("not_an_archive", lambda: b"7z\xbc\xaf\x27\x1c" + NOISE),
}  # fmt: skip
