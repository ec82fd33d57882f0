"""Random numbers of a step's views, drawn on the CPU for a whole global batch.

Each operation draws from a stream of its own: what it does to a view doesn't depend on which others are in the recipe,
so that compositions can be compared. An image's row of a stream depends on (seed, step, row) alone: any number of
processes draw the same batch and each keeps its rows.

Legend: N images, B views of each; C columns of random numbers.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

VIEWS_STREAM = 1  # sets these random numbers apart from others drawn with the recipe's seed

Floats = NDArray[np.float64]  # (..., B, N)
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Stream:
    """The random numbers of one operation in one step."""

    seed: int
    step: int
    num_images: int  # N
    num_views: int  # B, 1 or 2; the first view's numbers are the same for both
    image_size: int  # side of the views that they are for, pixels
    number: int  # sets the operation apart from others

    def columns(self, num_columns: int) -> Floats:
        """Uniform numbers in [0, 1), (C, B, N)."""
        generator = np.random.default_rng((VIEWS_STREAM, self.number, self.seed, self.step))
        table = generator.random((self.num_images, 2, num_columns))
        return np.ascontiguousarray(table[:, : self.num_views].T)  # (C, B, N)


def uniform(u: Floats, low: float, high: float) -> Floats:
    """Numbers in [0, 1) stretched to [low, high)."""
    return low + (high - low) * u


def as_float32(values: Floats) -> Tensor:
    """Drawn numbers as a tensor."""
    return torch.from_numpy(values.astype(np.float32))
