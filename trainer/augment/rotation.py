"""Rotation by quarter turns.

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
from trainer.augment.rows import on_rows


@dataclass(frozen=True)
class Rotation(Operation):
    """Rotation by 90, 180 or 270 degrees, counter-clockwise."""

    probability: ClassVar[str] = "rotation_probability"
    quarter_turns: Tensor  # (B, N) int64, 0 to 3

    @classmethod
    def sample(cls, config: Augmentation, stream: Stream) -> Self:
        coin, turns = stream.columns(2)
        return cls(torch.from_numpy(np.where(coin < config.rotation_probability, 1 + (3 * turns).astype(np.int64), 0)))

    def __call__(self, planes: Tensor) -> Tensor:
        quarter_turns = self.quarter_turns.flatten()
        planes = on_rows(planes, quarter_turns == 1, lambda views: views.rot90(1, (-2, -1)))
        planes = on_rows(planes, quarter_turns == 2, lambda views: views.rot90(2, (-2, -1)))
        return on_rows(planes, quarter_turns == 3, lambda views: views.rot90(3, (-2, -1)))
