"""Cutout (DeVries & Taylor, arXiv 1708.04552): a gray square hides a part of the view.

Legend: N images, B views of each, V = B N; S their side.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from models.config import Augmentation
from trainer.augment.draws import Stream
from trainer.augment.operation import Operation

GRAY = 0.5


@dataclass(frozen=True)
class Cutout(Operation):
    """A gray square around a random pixel, cut off at the view's border; tensors are (B, N) int64, pixels."""

    probability: ClassVar[str] = "cutout_probability"
    top: Tensor  # negative where the border cuts the square, as is left
    left: Tensor
    side: Tensor  # 0 where nothing is hidden

    @classmethod
    def sample(cls, config: Augmentation, stream: Stream) -> Self:
        coin, *center = stream.columns(3)
        side = max(1, round(config.cutout_side * stream.image_size))
        top, left = ((stream.image_size * u).astype(np.int64) - side // 2 for u in center)
        sides = np.where(coin < config.cutout_probability, side, 0)
        return cls(torch.from_numpy(top), torch.from_numpy(left), torch.from_numpy(sides))

    def __call__(self, planes: Tensor) -> Tensor:
        pixels = torch.arange(planes.shape[-1], device=planes.device)
        top, left, side = (values.reshape(-1, 1) for values in (self.top, self.left, self.side))
        in_rows = (pixels >= top) & (pixels < top + side)  # (V, S)
        in_columns = (pixels >= left) & (pixels < left + side)
        return planes.masked_fill_(in_rows[:, :, None] & in_columns[:, None, :], GRAY)
