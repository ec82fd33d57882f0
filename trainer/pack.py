"""The packed form of a data set: every image decoded once, as uint8, in one memory-mapped file.

Legend: N images; image i has height h_i, width w_i and 3 channels.

    pixels.bin      the images one after the other, each (h_i, w_i, 3) uint8, then zeros for one line of the widest,
                    so that as many bytes as the widest line has can be read from the start of any line
    index.npz       offsets (N,) int64, heights, widths, labels (N,) int32, splits (N,) uint8, sha256 (N, 32) uint8
    manifest.json   {"version", "preprocessing_version", "storage_side", "classes"}
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from models.preprocess import PREPROCESSING_VERSION

PACK_VERSION = 1
SPLITS = ("train", "test", "val")
NO_LABEL = -1
FILES = ("pixels.bin", "index.npz", "manifest.json")


@dataclass(frozen=True)
class Pack:
    """A packed data set, mapped into memory: opening it reads the index only."""

    pixels: NDArray[np.uint8]  # flat
    offsets: NDArray[np.int64]  # (N,)
    heights: NDArray[np.int32]  # (N,)
    widths: NDArray[np.int32]  # (N,)
    labels: NDArray[np.int32]  # (N,), NO_LABEL where the archive has no classes
    splits: NDArray[np.uint8]  # (N,), positions in SPLITS
    sha256: NDArray[np.uint8]  # (N, 32), of the bytes as they were uploaded
    classes: tuple[str, ...]
    storage_side: int

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Map the pack in `folder`. Raises ValueError if it was written, or its images reduced, by another version."""
        manifest = json.loads((folder / "manifest.json").read_text())
        if manifest["version"] != PACK_VERSION:
            raise ValueError(f"{folder}: pack version {manifest['version']}, this release reads {PACK_VERSION}")
        if manifest["preprocessing_version"] != PREPROCESSING_VERSION:
            raise ValueError(
                f"{folder}: preprocessing version {manifest['preprocessing_version']}, this release has"
                f" {PREPROCESSING_VERSION}; upload the data set again"
            )
        with np.load(folder / "index.npz") as index:
            columns = {name: index[name] for name in index.files}
        pixels = np.memmap(folder / "pixels.bin", dtype=np.uint8, mode="r")
        return cls(pixels=pixels, classes=tuple(manifest["classes"]), storage_side=manifest["storage_side"], **columns)

    def __len__(self) -> int:
        return len(self.offsets)

    def image(self, i: int) -> NDArray[np.uint8]:
        """Image i, (h_i, w_i, 3) uint8, a view of the mapped file."""
        height, width, start = int(self.heights[i]), int(self.widths[i]), int(self.offsets[i])
        return self.pixels[start : start + 3 * height * width].reshape(height, width, 3)

    def split(self, name: str) -> NDArray[np.int64]:
        """Positions of the images of a split, ascending."""
        return np.flatnonzero(self.splits == SPLITS.index(name))

    def images(self, positions: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
        """The images at `positions`, one by one."""
        return (self.image(int(i)) for i in positions)


class PackWriter:
    """Writes a pack image by image; `close` makes it whole. A context manager that lets go of the file in any case."""

    def __init__(self, folder: Path, *, storage_side: int, preprocessing_version: int) -> None:
        self.folder = folder
        self.storage_side = storage_side
        self.preprocessing_version = preprocessing_version
        self._pixels = (folder / "pixels.bin").open("wb")
        self._rows: list[tuple[int, int, int, int, int, bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._pixels.close()

    def add(self, image: NDArray[np.uint8], *, label: int, split: str, sha256: bytes) -> None:
        """Append an image, (h, w, 3) uint8."""
        height, width, channels = image.shape
        assert channels == 3
        assert image.dtype == np.uint8
        self._rows.append((self._pixels.tell(), height, width, label, SPLITS.index(split), sha256))
        self._pixels.write(np.ascontiguousarray(image).data)

    def close(self, classes: list[str]) -> None:
        """Write the index and the manifest."""
        offsets, heights, widths, labels, splits, sums = zip(*self._rows, strict=True)
        self._pixels.write(bytes(3 * max(widths)))
        self._pixels.close()
        np.savez(
            self.folder / "index.npz",
            offsets=np.array(offsets, np.int64),
            heights=np.array(heights, np.int32),
            widths=np.array(widths, np.int32),
            labels=np.array(labels, np.int32),
            splits=np.array(splits, np.uint8),
            sha256=np.frombuffer(b"".join(sums), np.uint8).reshape(-1, 32),
        )
        manifest = {
            "version": PACK_VERSION,
            "preprocessing_version": self.preprocessing_version,
            "storage_side": self.storage_side,
            "classes": classes,
        }
        (self.folder / "manifest.json").write_text(json.dumps(manifest, indent=2))
