"""Images for the benchmarks: generated JPEG files where none are given, and subsets of a person's own.

Legend: H, W the height and width of a generated photograph.
"""

import io
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from service.local_files import LocalImage
from trainer.sample_data import generated

SMALL_QUALITY, PHOTO_QUALITY = 95, 93
PHOTO_SIZES = ((375, 500), (500, 375), (333, 500))  # H, W: ImageNet's most frequent ones
OCTAVES = (4, 8, 16, 32, 64, 128)  # cells along the longer side; amplitude falls with frequency, as in photographs
GRAIN = 6  # standard deviation of a sensor's noise, of 255


def write_small_images(folder: Path, num_images: int) -> None:
    """JPEG files of 32 x 32 pixels, about 1 kB each: the size of CIFAR-10's; the same in every run."""
    images = np.concatenate(list(generated(num_images, seed=0).values()))  # (N, 32, 32, 3)
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number:05}.jpg", "JPEG", quality=SMALL_QUALITY)


def write_photographs(folder: Path, num_images: int) -> None:
    """JPEG files of about 500 x 375 pixels, ImageNet's average, and 75 kB; the same in every run."""
    for number in range(num_images):
        pixels = _texture(*PHOTO_SIZES[number % len(PHOTO_SIZES)], np.random.default_rng(number))
        Image.fromarray(pixels).save(folder / f"{number:05}.jpg", "JPEG", quality=PHOTO_QUALITY)


def _texture(H: int, W: int, random: np.random.Generator) -> NDArray[np.uint8]:
    """Smooth noise of several frequencies under fine grain, (H, W, 3)."""
    total = random.normal(128, GRAIN, (H, W, 3))
    for cells in OCTAVES:
        coarse = random.integers(0, 256, (cells * H // max(H, W) + 1, cells * W // max(H, W) + 1, 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize((W, H), Image.Resampling.BICUBIC))  # (H, W, 3)
        total += (smooth.astype(np.float32) - 128) * (2.0 / cells**0.5)
    return total.clip(0, 255).astype(np.uint8)


def first_of_each_class(images: Iterable[LocalImage], *, num_train: int, num_test: int) -> Iterator[LocalImage]:
    """The first images of every class, so many of its training split and of its test split."""
    seen: Counter[tuple[bool, str | None]] = Counter()
    for image in images:
        place = image.is_test, image.label
        seen[place] += 1
        if seen[place] <= (num_test if image.is_test else num_train):
            yield image


def write_archive(path: Path, images: Iterable[LocalImage]) -> None:
    """A tar of image files."""
    with tarfile.open(path, "w") as tar:
        for image in images:
            member = tarfile.TarInfo(str(image.path))
            member.size = len(image.content)
            tar.addfile(member, io.BytesIO(image.content))
