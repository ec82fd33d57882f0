"""Gaussian blur as two products with a small banded matrix an image.

Legend: V views, S their side, r the kernel's radius in pixels.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from models.config import Augmentation
from trainer.augment.draws import Stream, as_float32, uniform
from trainer.augment.operation import Operation
from trainer.augment.products import tensor_cores
from trainer.augment.rows import on_rows


@dataclass(frozen=True)
class Blur(Operation):
    """Gaussian blur."""

    probability: ClassVar[str] = "blur_probability"
    compiles: ClassVar[bool] = False
    sigma: Tensor  # (B, N) float32, pixels; 0 where the view stays sharp

    @classmethod
    def sample(cls, config: Augmentation, stream: Stream) -> Self:
        coin, sigma = stream.columns(2)
        return cls(as_float32(np.where(coin < config.blur_probability, uniform(sigma, *config.blur_sigma), 0)))

    def to(self, device: torch.device) -> Self:
        """Itself: the host must know which views to blur, for the others' products aren't computed."""
        return self

    def __call__(self, planes: Tensor) -> Tensor:
        return blur(planes, self.sigma.flatten())


def blur(planes: Tensor, sigma: Tensor) -> Tensor:
    """Planes (3, V, S, S) blurred with sigma (V,), in pixels; views whose sigma is 0 stay as they are.

    The kernel spans 10% of the side, made odd: 2 (S // 10 // 2) + 1 taps, 23 at 224. Borders are reflected.
    """
    return on_rows(planes, sigma > 0, _blur_all, sigma)


def _blur_all(planes: Tensor, sigma: Tensor) -> Tensor:
    weights = blur_matrix(sigma.to(planes.dtype), planes.shape[-1])  # (V, S, S)
    with tensor_cores():
        return torch.stack([weights.bmm(plane).bmm(weights.mT) for plane in planes])


def blur_matrix(sigma: Tensor, size: int) -> Tensor:
    """Weights (V, S, S) that convolve a line of `size` pixels with a Gaussian of sigma (V,), reflected at its ends.

    Pixel j weighs in at itself and at its two mirror images, -j and 2 (S - 1) - j.
    """
    radius = size // 10 // 2
    distances = torch.arange(radius + 1, device=sigma.device, dtype=sigma.dtype)
    taps = distances.div(sigma.clamp(min=1e-3)[:, None]).square_().mul_(-0.5).exp_()  # (V, r + 1); sigma 0: a spike
    taps = taps / (2 * taps.sum(1, keepdim=True) - 1)
    taps = torch.nn.functional.pad(taps, (0, 1))  # distances beyond the radius read a 0
    i = torch.arange(size, device=sigma.device)[:, None]
    j = i.mT
    outside = radius + 1
    left = torch.where(j > 0, i + j, outside)
    right = torch.where(j < size - 1, 2 * (size - 1) - i - j, outside)
    mirrored = [taps[:, distance.clamp(max=outside)] for distance in ((i - j).abs(), left, right)]
    return mirrored[0].add_(mirrored[1]).add_(mirrored[2])
