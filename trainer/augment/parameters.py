"""What is random about two views, drawn on the CPU for a whole global batch.

An image's row of random numbers depends on (seed, step, row) alone: any number of processes draw the same batch
and each keeps its rows.

Legend: N images, two views of each; S the views' side; C columns of random numbers.
"""

import dataclasses
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.config import Augmentation
from trainer.data import send

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
ORDERS = np.array(list(itertools.permutations(range(4))))  # (24, 4)

VIEWS_STREAM = 1  # sets these random numbers apart from others drawn with the recipe's seed
NUM_TRIES = 10  # of the crop, as torchvision's RandomResizedCrop
NUM_COLUMNS = 2 * NUM_TRIES + 12

Floats = NDArray[np.float64]  # (..., 2, N)
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class ViewParameters:
    """Everything that distinguishes N images' two views; tensors are (2, N), view first."""

    image_size: int  # S
    top: Tensor  # int64, as are left, height and width: the crop, pixels
    left: Tensor
    height: Tensor
    width: Tensor
    flip: Tensor  # bool
    order: Tensor  # (2, N, 4) int64: the four colour operations, first to last
    brightness: Tensor  # float32 factors; 1 where the view's colours stay
    brightness_offset: Tensor
    contrast: Tensor
    saturation: Tensor
    hue_shift: Tensor  # turns
    grayscale: Tensor  # bool
    blur_sigma: Tensor | None  # pixels, 0 where the view stays sharp; None if the recipe has no blur

    def rows(self, rows: slice | Tensor) -> Self:
        """The parameters of some of the images."""
        return self._each(lambda values: values[:, rows])

    def to(self, device: torch.device) -> Self:
        """The parameters on `device`; the host doesn't wait for the copies."""
        return self._each(lambda values: send(values, device))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Self:
        changes: dict[str, Any] = {name: change(value) for name, value in vars(self).items() if torch.is_tensor(value)}
        return dataclasses.replace(self, **changes)


def sample_parameters(
    config: Augmentation, heights: Tensor, widths: Tensor, image_size: int, *, seed: int, step: int
) -> ViewParameters:
    """Parameters of both views of images of heights, widths (N,) int64, in pixels, on the CPU.

    The same for the same (config, seed, step), row by row: those of the first rows don't depend on N.
    """
    table = np.random.default_rng((VIEWS_STREAM, seed, step)).random((len(heights), 2, NUM_COLUMNS))
    columns = np.ascontiguousarray(table.T)  # (C, 2, N)
    tries, rest = columns[: 2 * NUM_TRIES].reshape(2, NUM_TRIES, *columns.shape[1:]), columns[2 * NUM_TRIES :]
    at_y, at_x, flip, jitter, *factors, hue, order, grayscale, blurred, sigma = rest
    top, left, height, width = _crop(config, heights.numpy(), widths.numpy(), tries, at_y, at_x)
    jittered = jitter < config.color_probability
    brightness, contrast, saturation = (_factor(u, config.color_strength, jittered) for u in factors)
    offset = np.where(jittered, 0.8 * config.color_strength * (2 * factors[0] - 1), 0)
    additive = config.brightness == "additive"
    sigma = np.where(blurred < config.blur_probability, _uniform(sigma, *config.blur_sigma), 0)
    return ViewParameters(
        image_size=image_size,
        top=torch.from_numpy(top),
        left=torch.from_numpy(left),
        height=torch.from_numpy(height),
        width=torch.from_numpy(width),
        flip=torch.from_numpy(flip < config.flip_probability),
        order=torch.from_numpy(ORDERS[(len(ORDERS) * order).astype(np.int64)]),
        brightness=_float32(np.ones_like(offset) if additive else brightness),
        brightness_offset=_float32(offset if additive else np.zeros_like(offset)),
        contrast=_float32(contrast),
        saturation=_float32(saturation),
        hue_shift=_float32(np.where(jittered, 0.2 * config.color_strength * (2 * hue - 1), 0)),
        grayscale=torch.from_numpy(grayscale < config.grayscale_probability),
        blur_sigma=_float32(sigma) if config.blur_probability else None,
    )


def _crop(
    config: Augmentation, heights: Integers, widths: Integers, tries: Floats, at_y: Floats, at_x: Floats
) -> tuple[Integers, Integers, Integers, Integers]:
    """Top, left, height and width of crops, each (2, N); tries are (2, NUM_TRIES, 2, N): area and ratio.

    As torchvision's RandomResizedCrop: the first try that fits, else the largest centred crop of a legal ratio.
    """
    area = heights * widths * _uniform(tries[0], *config.crop_area)
    ratio = np.exp(_uniform(tries[1], *np.log(config.crop_ratio)))
    tried_widths, tried_heights = np.rint(np.sqrt(area * ratio)), np.rint(np.sqrt(area / ratio))
    fits = (tried_widths > 0) & (tried_widths <= widths) & (tried_heights > 0) & (tried_heights <= heights)
    first = fits.argmax(0, keepdims=True)  # (1, 2, N)
    found = fits.any(0)
    low, high = config.crop_ratio
    widest = np.minimum(widths, np.rint(heights * high))
    tallest = np.minimum(heights, np.rint(widths / low))
    width = np.where(found, np.take_along_axis(tried_widths, first, 0)[0], widest).astype(np.int64)
    height = np.where(found, np.take_along_axis(tried_heights, first, 0)[0], tallest).astype(np.int64)
    free_y, free_x = heights - height, widths - width
    top = np.where(found, (at_y * (free_y + 1)).astype(np.int64), free_y // 2)
    left = np.where(found, (at_x * (free_x + 1)).astype(np.int64), free_x // 2)
    return top, left, height, width


def _uniform(u: Floats, low: float, high: float) -> Floats:
    return low + (high - low) * u


def _factor(u: Floats, strength: float, jittered: NDArray[np.bool_]) -> Floats:
    """Factors around 1, 1 itself where the view isn't jittered."""
    return np.where(jittered, _uniform(u, max(0, 1 - 0.8 * strength), 1 + 0.8 * strength), 1)


def _float32(values: Floats) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))
