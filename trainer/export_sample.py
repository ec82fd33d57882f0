"""The images that an export looks at: some to calibrate int8 on, others to measure every variant on.

Legend: M images of a pack.
"""

import numpy as np
from numpy.typing import NDArray

from models.config import ExportRecipe, Preprocessing
from models.export import Sample
from models.probing import TEST_SPLITS
from trainer.data import model_inputs
from trainer.pack import Pack

CALIBRATION_STREAM = 3  # sets these random numbers apart from others drawn with the recipe's seed
MAX_HELD_OUT = 256  # images
MAX_HELD_OUT_PIXELS = 64 * 224**2  # large images are fewer: a ResNet-50 takes two cores half a minute for these


def export_sample(pack: Pack, preprocessing: Preprocessing, recipe: ExportRecipe) -> Sample:
    """Training images to calibrate on, and images of `test` or `val`; without these, training images that are left.

    Which ones is a function of the seed and the training images. At most half of the training images calibrate where
    the others are needed to measure.
    """
    generator = np.random.default_rng((CALIBRATION_STREAM, recipe.seed))
    train = generator.permutation(pack.split("train"))  # (M,)
    others = next((split for name in TEST_SPLITS if len(split := pack.split(name))), None)
    most = len(train) if others is not None else max(1, len(train) // 2)
    calibration = np.sort(train[: min(recipe.num_calibration_images, most)])
    held_out = _measured(others if others is not None else train[most:], preprocessing.image_size, recipe.seed)
    if not len(held_out):  # of a single image
        held_out = calibration
    return Sample(
        held_out=model_inputs(pack, held_out, preprocessing),
        calibration=model_inputs(pack, calibration, preprocessing),
        classes=pack.classes,
    )


def _measured(positions: NDArray[np.int64], image_size: int, seed: int) -> NDArray[np.int64]:
    """As many of the images at `positions` as are measured, at random: a data set is sorted by class."""
    number = min(MAX_HELD_OUT, MAX_HELD_OUT_PIXELS // image_size**2)
    return np.sort(np.random.default_rng((CALIBRATION_STREAM, seed)).permutation(positions)[:number])
