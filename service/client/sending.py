"""Images and files on their way to the service."""

import io
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath

from service.local_files import LocalImage, batches, readable

SentImage = Path | str | bytes | tuple[str, bytes]  # a file or its path, the content of one, or a name and the content
Progress = Callable[[int, int], None]  # what is done, of how much


def named(image: SentImage) -> tuple[str, bytes]:
    """An image's file name and content; a file is read now. Raises TypeError for what is no image."""
    match image:
        case Path() | str():
            return readable(Path(image).name), Path(image).read_bytes()
        case bytes():
            return "image", image
        case (str(), bytes()):
            return image
    raise TypeError(f"an image is a path, bytes, or a pair of name and bytes, not {image!r:.60}")


def in_requests(images: Iterable[SentImage]) -> Iterator[list[tuple[str, bytes]]]:
    """The images in lists that the service takes in one request; no more than one of them is in memory."""
    read = (LocalImage(PurePosixPath(name), content) for name, content in map(named, images))
    for batch in batches(read):
        yield [(str(image.path), image.content) for image in batch]


def as_files(images: Iterable[tuple[str, bytes]]) -> list[tuple[str, tuple[str, bytes]]]:
    """The images as the field `files` of a form."""
    return [("files", image) for image in images]


class CountedFile(io.FileIO):
    """A file that tells how much of it was read."""

    def __init__(self, path: Path, on_progress: Progress) -> None:
        super().__init__(path)
        self._on_progress = on_progress
        self._num_bytes = path.stat().st_size

    def read(self, size: int | None = -1, /) -> bytes:
        part = super().read(-1 if size is None else size)
        self._on_progress(self.tell(), self._num_bytes)
        return part
