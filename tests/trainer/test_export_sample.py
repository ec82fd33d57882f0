"""Which images an export calibrates on, and which it measures on."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.config import ExportRecipe, Preprocessing
from tests.trainer.probes.run_folders import SIDE, write_pack
from trainer.export_sample import export_sample
from trainer.pack import Pack

PREPROCESSING = Preprocessing(image_size=SIDE)


def pack_of(folder: Path, splits: Sequence[str]) -> Pack:
    """Images (SIDE, SIDE) whose every value is their position in the pack; as many as there are splits."""
    folder.mkdir()
    images = np.broadcast_to(np.arange(len(splits), dtype=np.uint8)[:, None, None, None], (len(splits), SIDE, SIDE, 3))
    write_pack(folder, images, [0] * len(splits), splits, ["a"])
    return Pack.open(folder)


def positions(images: NDArray[np.uint8]) -> list[int]:
    """Where in the pack the images were."""
    return [int(image[0, 0, 0]) for image in images]


def test_test_images_never_calibrate(tmp_path: Path) -> None:
    """The calibration images are the same with a test split or another one, and are training images; those measure."""
    recipe = ExportRecipe(num_calibration_images=5)
    one, other = (
        export_sample(pack_of(tmp_path / str(n), ["train"] * 20 + ["test"] * n), PREPROCESSING, recipe) for n in (4, 9)
    )
    assert (one.calibration == other.calibration).all()
    assert len(set(positions(one.calibration))) == 5
    assert max(positions(one.calibration)) < 20
    assert positions(one.held_out) == list(range(20, 24))
    assert positions(other.held_out) == list(range(20, 29))


def test_val_measures_where_there_is_no_test(tmp_path: Path) -> None:
    """Images of `val` are held out too."""
    sample = export_sample(pack_of(tmp_path / "pack", ["train"] * 6 + ["val"] * 3), PREPROCESSING, ExportRecipe())
    assert positions(sample.held_out) == [6, 7, 8]
    assert positions(sample.calibration) == list(range(6))
    assert sample.classes == ("a",)


def test_training_images_measure_where_there_are_no_others(tmp_path: Path) -> None:
    """Half of them calibrate at most, and none does both."""
    sample = export_sample(pack_of(tmp_path / "pack", ["train"] * 21), PREPROCESSING, ExportRecipe())
    assert len(sample.calibration) == 10
    assert sorted(positions(sample.calibration) + positions(sample.held_out)) == list(range(21))


def test_the_seed_chooses(tmp_path: Path) -> None:
    """The same seed takes the same images, another one others."""
    pack = pack_of(tmp_path / "pack", ["train"] * 40)
    chosen = [
        positions(export_sample(pack, PREPROCESSING, ExportRecipe(seed=seed, num_calibration_images=8)).calibration)
        for seed in (0, 0, 1)
    ]
    assert chosen[0] == chosen[1] != chosen[2]


def test_large_images_are_measured_in_smaller_numbers(tmp_path: Path) -> None:
    """At most 256 images, and of 224 pixels 64; they are drawn from the whole split, which is sorted by class."""
    pack = pack_of(tmp_path / "pack", ["train"] + ["test"] * 255)
    small = export_sample(pack, PREPROCESSING, ExportRecipe())
    large = export_sample(pack, Preprocessing(image_size=224), ExportRecipe())
    assert (len(small.held_out), len(large.held_out)) == (255, 64)
    assert max(positions(large.held_out)) > 200


def test_a_single_image_does_both(tmp_path: Path) -> None:
    """There is nothing else to take."""
    sample = export_sample(pack_of(tmp_path / "pack", ["train"]), PREPROCESSING, ExportRecipe())
    assert positions(sample.calibration) == positions(sample.held_out) == [0]
