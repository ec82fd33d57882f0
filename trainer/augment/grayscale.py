"""Grayscale, as torchvision computes it.

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
class Grayscale(Operation):
    """All three channels become the view's luma."""

    probability: ClassVar[str] = "grayscale_probability"
    active: Tensor  # (B, N) bool

    @classmethod
    def sample(cls, config: Augmentation, stream: Stream) -> Self:
        (coin,) = stream.columns(1)
        return cls(torch.from_numpy(coin < config.grayscale_probability))

    def __call__(self, planes: Tensor) -> Tensor:
        return on_rows(planes, self.active.flatten(), to_gray)


def luma(planes: Tensor) -> Tensor:
    """Planes (3, V, S, S) as gray (V, S, S)."""
    red, green, blue = planes.unbind()
    return (0.2989 * red).add_(green, alpha=0.587).add_(blue, alpha=0.114)


def to_gray(planes: Tensor) -> Tensor:
    """Planes (3, V, S, S), all three equal to the views' gray."""
    return luma(planes).expand_as(planes)
