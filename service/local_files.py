"""A person's own images on the client's side: a folder, or a zip or tar archive. Nothing is unpacked to disk.

The service treats uploaded archives as hostile (trainer/archive.py); these are the user's own and only read.
"""

import io
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import zstandard

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
TEST_FOLDERS = ("test", "val", "valid", "validation")
REQUEST_IMAGES = 200  # in one upload; both are within the limits that the service has by default
REQUEST_BYTES = 64 * 2**20
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


class LocalImage(NamedTuple):
    """An image file: its path inside the folder or archive, and its bytes."""

    path: PurePosixPath
    content: bytes

    @property
    def label(self) -> str | None:
        """The name of its folder, if it has one."""
        return self.path.parent.name or None

    @property
    def is_test(self) -> bool:
        """Whether it is below a folder that names a test split."""
        return any(part.lower() in TEST_FOLDERS for part in self.path.parts[:-1])


def read_images(source: Path) -> Iterator[LocalImage]:
    """The images of a folder or archive in its order, or the one image file. Raises ValueError for anything else."""
    members: Iterator[tuple[str, bytes]]
    if source.is_file() and _is_image(source.name):
        members = iter([(source.name, source.read_bytes())])
    elif source.is_dir():
        members = _folder_members(source)
    elif zipfile.is_zipfile(source):
        members = _zip_members(source)
    else:
        members = _tar_members(source)
    return (LocalImage(PurePosixPath(readable(name)), content) for name, content in members)


def readable(name: str) -> str:
    """A file's name that can be sent and printed: bytes that aren't UTF-8 become replacement characters."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def batches(
    images: Iterable[LocalImage], *, num_images: int = REQUEST_IMAGES, num_bytes: int = REQUEST_BYTES
) -> Iterator[list[LocalImage]]:
    """The images in lists of at most so many and so much; an image that is larger alone is a list of its own."""
    batch: list[LocalImage] = []
    size = 0
    for image in images:
        if batch and (len(batch) == num_images or size + len(image.content) > num_bytes):
            yield batch
            batch, size = [], 0
        batch.append(image)
        size += len(image.content)
    if batch:
        yield batch


def _is_image(name: str) -> bool:
    """By its ending; not what macOS adds to folders and archives."""
    *folders, file = PurePosixPath(name).parts
    return file.lower().endswith(IMAGE_SUFFIXES) and not file.startswith(".") and "__MACOSX" not in folders


def _folder_members(source: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(source.rglob("*")):
        name = path.relative_to(source).as_posix()
        if path.is_file() and _is_image(name):
            yield name, path.read_bytes()


def _zip_members(source: Path) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(source) as archive:
        for info in archive.infolist():
            if _is_image(info.filename):
                yield info.filename, archive.read(info)


def _tar_members(source: Path) -> Iterator[tuple[str, bytes]]:
    with source.open("rb") as file:
        is_zstd = file.read(4) == ZSTD_MAGIC
        file.seek(0)
        stream = zstandard.ZstdDecompressor().stream_reader(file) if is_zstd else file
        try:
            with tarfile.open(fileobj=stream, mode="r|" if is_zstd else "r|*") as archive:
                for member in archive:
                    content = archive.extractfile(member) if member.isfile() and _is_image(member.name) else None
                    if content:
                        yield member.name, content.read()
        except tarfile.ReadError as error:
            raise ValueError(f"{source}: neither a folder nor a zip, tar, tar.gz or tar.zst archive") from error


def pack_folder(folder: Path, archive: Path) -> None:
    """Write the images of a folder into a tar archive, so that it can be uploaded. Raises ValueError if it has none."""
    num_images = 0
    with tarfile.open(archive, "w") as tar:
        for image in read_images(folder):
            info = tarfile.TarInfo(str(image.path))
            info.size = len(image.content)
            tar.addfile(info, io.BytesIO(image.content))
            num_images += 1
    if not num_images:
        raise nothing_found(folder)


def nothing_found(source: Path) -> ValueError:
    """The error that says what a place without images holds instead."""
    files = [path for path in source.rglob("*") if path.is_file()] if source.is_dir() else []
    endings = Counter(path.suffix.lower() or "no ending" for path in files).most_common(3)
    instead = ", ".join(f"{number} of {ending}" for ending, number in endings)
    found = f"its {len(files)} files are {instead}; convert them" if files else "it is empty"
    return ValueError(f"{source}: no image with a name ending in {', '.join(IMAGE_SUFFIXES)} ({found})")
