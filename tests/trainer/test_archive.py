import io
import tarfile
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.trainer.archives import HOSTILE, LIMITS, NOISE, Members, make_gz, make_tar, make_zip, make_zst, patched
from trainer.archive import is_junk, read_members, safe_name
from trainer.archive_limits import ArchiveError, ArchiveLimits

MEMBERS = [
    ("train/cat/1.png", b"one"),
    ("train/dög/2.png", NOISE),
    ("test/cat/" + "long" * 40 + ".png", b"x" * 512),
    ("test/empty.png", b""),
]

WRITERS: dict[str, Callable[[Members], bytes]] = {
    "zip, deflated": make_zip,
    "zip, stored": lambda members: make_zip(members, method=zipfile.ZIP_STORED),
    "tar": make_tar,
    "tar.gz": lambda members: make_gz(make_tar(members)),
    "tar.zst": lambda members: make_zst(make_tar(members)),
}


def read(folder: Path, archive: bytes, **limits: int) -> list[tuple[str, bytes]]:
    path = folder / "archive"
    path.write_bytes(archive)
    return list(read_members(path, ArchiveLimits(**(LIMITS | limits))))


@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)
def test_formats_are_known_by_content(tmp_path: Path, writer: Callable[[Members], bytes]) -> None:
    """Every accepted format gives its files' names and bytes in order, from a file whose name says nothing."""
    assert read(tmp_path, writer(MEMBERS)) == MEMBERS


@pytest.mark.parametrize("format_", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_of_every_tar_dialect(tmp_path: Path, format_: int) -> None:
    """A name of 150 characters survives as prefix (ustar), long name (GNU) and pax record."""
    buffer = io.BytesIO()
    name = "folder/" * 20 + "image.png"
    with tarfile.open(fileobj=buffer, mode="w", format=format_) as tar:
        info = tarfile.TarInfo(name)
        info.size = 3
        tar.addfile(info, io.BytesIO(b"abc"))
    assert read(tmp_path, buffer.getvalue()) == [(name, b"abc")]


def test_zip64_and_streamed_entries(tmp_path: Path) -> None:
    """Entries with 64-bit sizes, written to a stream that can't go back, are read."""

    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.parts: list[bytes] = []

        def writable(self) -> bool:
            return True

        def write(self, part: object) -> int:
            self.parts.append(bytes(part))  # type: ignore[call-overload]
            return len(self.parts[-1])

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as file, file.open("a/1.png", "w", force_zip64=True) as entry:
        entry.write(NOISE)
    assert read(tmp_path, b"".join(pipe.parts)) == [("a/1.png", NOISE)]


def test_more_entries_than_16_bits_count(tmp_path: Path) -> None:
    """A zip of 65,536 entries, which needs the zip64 end record, is read in full."""
    archive = make_zip(((f"{i}", b"") for i in range(2**16)), method=zipfile.ZIP_STORED)
    assert len(read(tmp_path, archive, max_entries=2**16, max_bytes=2**30)) == 2**16


def test_names_in_old_code_pages(tmp_path: Path) -> None:
    """A zip name without the UTF-8 mark is UTF-8 if it can be, else code page 437; a tar name is Latin-1."""
    marked = make_zip([("é.png", b"")])
    flags = (6, marked.index(b"PK\1\2") + 8)
    unmarked = patched(patched(marked, flags[0], b"\0\0"), flags[1], b"\0\0")
    assert read(tmp_path, unmarked) == [("é.png", b"")]
    assert read(tmp_path, unmarked.replace("é".encode(), b"\x82e")) == [("ée.png", b"")]
    latin = io.BytesIO()
    with tarfile.open(fileobj=latin, mode="w", format=tarfile.GNU_FORMAT, encoding="latin-1") as tar:
        tar.addfile(tarfile.TarInfo("é.png"))
    assert read(tmp_path, latin.getvalue()) == [("é.png", b"")]


@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)
def test_junk_and_folders_are_left_out(tmp_path: Path, writer: Callable[[Members], bytes]) -> None:
    """What macOS, Windows and version control leave behind is no member, and neither is a folder."""
    junk = ["__MACOSX/a/._1.png", "a/.DS_Store", "a/Thumbs.db", "a/._1.png", ".git/config", "a/"]
    assert read(tmp_path, writer([("a/1.png", b"1"), *((name, b"") for name in junk)])) == [("a/1.png", b"1")]


@pytest.mark.parametrize(("code", "build"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_archives_are_refused(tmp_path: Path, code: str, build: Callable[[], bytes]) -> None:
    """Each kind of hostile or damaged archive is refused with its own code, and nothing is written anywhere."""
    with pytest.raises(ArchiveError) as refusal:
        read(tmp_path, build())
    assert refusal.value.code == code, refusal.value.detail
    assert [path.name for path in tmp_path.iterdir()] == ["archive"]


@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)
def test_limits_are_inclusive(tmp_path: Path, writer: Callable[[Members], bytes]) -> None:
    """An archive exactly at the limits of entries and of bytes a member passes."""
    members = [(f"{i}.png", NOISE) for i in range(5)]
    assert read(tmp_path, writer(members), max_entries=5, max_member_bytes=4096) == members


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    writer=st.sampled_from(sorted(WRITERS)),
    edits=st.lists(st.tuples(st.integers(0, 10**6), st.binary(min_size=1, max_size=8)), min_size=1, max_size=4),
    length=st.floats(0, 1),
)
def test_damaged_archives_never_crash(
    tmp_path: Path, writer: str, edits: list[tuple[int, bytes]], length: float
) -> None:
    """Whatever bytes of an archive change or are cut off, it is read or refused by ArchiveError."""
    archive = WRITERS[writer](MEMBERS)
    for at, replacement in edits:
        archive = patched(archive, at, replacement)
    archive = archive[: round(len(archive) * length) if length < 0.5 else len(archive)]
    try:
        names = [name for name, _ in read(tmp_path, archive)]
    except ArchiveError:
        return
    assert all(name == safe_name(name) for name in names)


@given(st.lists(st.sampled_from(["a", "é", "e\u0301", "..", ".", "", "\\", "\0", "C:", " ", "\u202e"]), max_size=6))
def test_a_safe_name_stays_inside(parts: list[str]) -> None:
    """A name that is accepted is relative, has no `..`, NUL or backslash, is NFC, and is left alone a second time."""
    try:
        name = safe_name("/".join(parts))
    except ArchiveError:
        assert set(parts) & {"..", "\\", "\0", "C:"} or parts[:1] == [""]
        return
    assert not {"..", ".", ""} & set(name.split("/")) or not name
    assert not {"\\", "\0"} & set(name)
    assert safe_name(name) == name == unicodedata.normalize("NFC", name)


@pytest.mark.parametrize("name", ["a/cat.1.png", "a/c._1.png", "a/MACOSX/1.png"])
def test_dots_inside_names_are_no_junk(name: str) -> None:
    """Only names that begin with a dot are hidden."""
    assert not is_junk(name)
