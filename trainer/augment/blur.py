"""Gaussian blur as products of blocks of each line with one small matrix a view.

Legend: V views, S their side, r the kernel's radius in pixels, b the pixels of a block, K taps.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.config import Augmentation
from trainer.augment.draws import Stream, as_float32, uniform
from trainer.augment.operation import Operation
from trainer.augment.products import tensor_cores
from trainer.augment.rows import on_rows

BLOCK = 64  # a product makes about so many pixels of a line from themselves and r neighbours on each side


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
    S = planes.shape[-1]
    r = S // 10 // 2
    num_blocks = math.ceil(S / BLOCK)
    b = math.ceil(S / num_blocks)
    weights = toeplitz(gaussian(sigma.to(planes.dtype), r), b)  # (V, b + 2r, b)
    beyond = r, r + num_blocks * b - S  # of the last block's pixels some may be too many
    x = F.pad(planes, beyond + beyond, mode="reflect").transpose(0, 1)  # (V, 3, S', S'), S' = num_blocks b + 2r
    with tensor_cores():
        x = x.unfold(3, b + 2 * r, b).flatten(1, 3).bmm(weights)  # (V, 3 S' num_blocks, b)
        x = x.view(len(sigma), 3, -1, num_blocks * b)[..., :S]  # (V, 3, S', S)
        x = x.unfold(2, b + 2 * r, b).flatten(1, 3).bmm(weights)  # (V, 3 num_blocks S, b)
    x = x.view(len(sigma), 3, num_blocks, S, b).permute(1, 0, 2, 4, 3)  # (3, V, num_blocks, b, S)
    return x.flatten(2, 3)[:, :, :S]


def gaussian(sigma: Tensor, radius: int) -> Tensor:
    """A Gaussian of sigma (V,) at -radius .. radius, made to add up to 1: (V, 2 radius + 1)."""
    distances = torch.arange(-radius, radius + 1, device=sigma.device, dtype=sigma.dtype)
    taps = distances.div(sigma.clamp(min=1e-3)[:, None]).square_().mul_(-0.5).exp_()  # sigma 0: a spike
    return taps.div_(taps.sum(1, keepdim=True))


def toeplitz(taps: Tensor, size: int) -> Tensor:
    """Weights (V, size + K - 1, size) by which so many pixels of a line become `size`, convolved with taps (V, K).

    The taps, and zeros, written over and over in rows shorter than their period by one: each row is the one above
    shifted by one.
    """
    K = taps.shape[1]
    rows = F.pad(taps, (0, size)).repeat(1, size)[:, : size * (size + K - 1)]
    return rows.view(-1, size, size + K - 1).mT
