"""Horizontal flip, where it isn't part of a crop.

Legend: N images, B views of each, V = B N; S their side.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from models.config import Augmentation
from trainer.augment.draws import Stream
from trainer.augment.operation import Operation
from trainer.augment.rows import on_rows


@dataclass(frozen=True)
class Flip(Operation):
    """Left becomes right."""

    probability: ClassVar[str] = "flip_probability"
    active: Tensor  # (B, N) bool

    @classmethod
    def sample(cls, config: Augmentation, stream: Stream) -> Self:
        (coin,) = stream.columns(1)
        return cls(torch.from_numpy(coin < config.flip_probability))

    def __call__(self, planes: Tensor) -> Tensor:
        return on_rows(planes, self.active.flatten(), lambda views: views.flip(-1))
