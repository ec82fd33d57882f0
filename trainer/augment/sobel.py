"""Sobel filtering: edges.

Legend: N images, B views of each, V = B N; S their side.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from models.config import Augmentation
from trainer.augment.draws import Stream
from trainer.augment.operation import Operation
from trainer.augment.rows import on_rows


@dataclass(frozen=True)
class Sobel(Operation):
    """Each channel becomes the magnitude of its Sobel gradient."""

    probability: ClassVar[str] = "sobel_probability"
    active: Tensor  # (B, N) bool

    @classmethod
    def sample(cls, config: Augmentation, stream: Stream) -> Self:
        (coin,) = stream.columns(1)
        return cls(torch.from_numpy(coin < config.sobel_probability))

    def __call__(self, planes: Tensor) -> Tensor:
        return on_rows(planes, self.active.flatten(), gradient_magnitude)


def gradient_magnitude(planes: Tensor) -> Tensor:
    """sqrt(gx^2 + gy^2) of planes (3, V, S, S), clipped to [0, 1].

    gx is the difference of the right and the left neighbours, smoothed by (1, 2, 1) along y; gy the same transposed.
    Borders are reflected, as in TensorFlow's sobel_edges, which leaves no gradient across them.
    """
    padded = F.pad(planes, (1, 1, 1, 1), mode="reflect")  # (3, V, S + 2, S + 2)
    across = padded[..., 2:] - padded[..., :-2]  # (3, V, S + 2, S)
    down = padded[..., 2:, :] - padded[..., :-2, :]  # (3, V, S, S + 2)
    gx = across[..., :-2, :] + 2 * across[..., 1:-1, :] + across[..., 2:, :]  # (3, V, S, S)
    gy = down[..., :-2] + 2 * down[..., 1:-1] + down[..., 2:]
    return gx.square().add_(gy.square()).sqrt_().clamp_(0, 1)
