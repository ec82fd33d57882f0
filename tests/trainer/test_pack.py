from pathlib import Path

import numpy as np
import pytest

from models.preprocess import PREPROCESSING_VERSION
from trainer.pack import NO_LABEL, Pack, PackWriter

SIZES = [(4, 6), (1, 1), (9, 3)]
LABELS = [1, NO_LABEL, 0]
SPLITS = ["train", "test", "train"]
SUMS = [bytes([i]) * 32 for i in range(3)]
IMAGES = [np.random.default_rng(i).integers(0, 256, (*size, 3), np.uint8) for i, size in enumerate(SIZES)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A closed pack of three images of different sizes."""
    writer = PackWriter(tmp_path, storage_side=64, preprocessing_version=PREPROCESSING_VERSION)
    for image, label, split, sha256 in zip(IMAGES, LABELS, SPLITS, SUMS, strict=True):
        writer.add(image, label=label, split=split, sha256=sha256)
    writer.close(["cat", "dog"])
    return tmp_path


def test_a_pack_gives_back_what_was_added(folder: Path) -> None:
    """Pixels, labels, splits, sums, classes and storage side come back unchanged, images of any size."""
    pack = Pack.open(folder)
    assert len(pack) == 3
    for i, image in enumerate(IMAGES):
        np.testing.assert_array_equal(pack.image(i), image)
    assert pack.labels.tolist() == LABELS
    assert [bytes(row) for row in pack.sha256] == SUMS
    assert (pack.classes, pack.storage_side) == (("cat", "dog"), 64)


def test_splits_are_ascending_positions(folder: Path) -> None:
    """A split's positions are those of its images; a split without images is empty."""
    pack = Pack.open(folder)
    assert [pack.split(name).tolist() for name in ("train", "test", "val")] == [[0, 2], [1], []]
    for image, expected in zip(pack.images(pack.split("train")), (IMAGES[0], IMAGES[2]), strict=True):
        np.testing.assert_array_equal(image, expected)


def test_images_are_views_of_the_file(folder: Path) -> None:
    """Reading an image copies nothing, so that opening a large pack costs its index alone."""
    pack = Pack.open(folder)
    assert np.shares_memory(pack.image(2), pack.pixels)


def test_images_reduced_by_other_rules_are_refused(folder: Path) -> None:
    """A pack of another preprocessing version is refused with what to do."""
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"preprocessing_version": 2,', '"preprocessing_version": 1,'))
    with pytest.raises(ValueError, match="preprocessing version 1, this release has 2; upload the data set again"):
        Pack.open(folder)


def test_another_version_is_refused(folder: Path) -> None:
    """A pack of a version that this release doesn't know is refused by name."""
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"version": 1,', '"version": 99,'))
    with pytest.raises(ValueError, match="pack version 99, this release reads 1"):
        Pack.open(folder)
