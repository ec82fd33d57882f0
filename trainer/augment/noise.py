"""Gaussian noise, drawn where the planes are: as many random numbers as pixels would be much to bring there.

A value's noise is a hash of its view's key and its position, so it is the same on every device, in every process and
in any order of computing.

Legend: N images, B views of each, V = B N; S their side.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from models.config import Augmentation
from trainer.augment.draws import Stream, as_float32, uniform
from trainer.augment.operation import Operation
from trainer.augment.rows import on_rows

WORD = 2**32


@dataclass(frozen=True)
class Noise(Operation):
    """Independent Gaussian noise on every value."""

    probability: ClassVar[str] = "noise_probability"
    sigma: Tensor  # (B, N) float32, the standard deviation; 0 where the view stays clean
    key: Tensor  # (B, N, 2) int64 in [0, 2^32)

    @classmethod
    def sample(cls, config: Augmentation, stream: Stream) -> Self:
        coin, sigma, *key = stream.columns(4)
        sigma = np.where(coin < config.noise_probability, uniform(sigma, *config.noise_sigma), 0)
        return cls(as_float32(sigma), torch.from_numpy((WORD * np.stack(key, -1)).astype(np.int64)))

    def __call__(self, planes: Tensor) -> Tensor:
        sigma = self.sigma.flatten()
        return on_rows(planes, sigma > 0, add_noise, sigma[:, None, None], self.key.flatten(0, 1))


def add_noise(planes: Tensor, sigma: Tensor, key: Tensor) -> Tensor:
    """Planes (3, V, S, S) with noise of sigma (V, 1, 1) that the keys, (V, 2) int64, decide; clipped to [0, 1]."""
    S = planes.shape[-1]
    positions = torch.arange(3 * S * S, device=planes.device).view(3, 1, S, S)
    sigma = sigma.to(planes.dtype)
    noisy = [
        torch.addcmul(plane, sigma, normal_numbers(key, at, planes.dtype))
        for plane, at in zip(planes, positions, strict=True)  # a third of the memory that one go would take
    ]
    return torch.stack(noisy).clamp_(0, 1)


def normal_numbers(key: Tensor, positions: Tensor, dtype: torch.dtype) -> Tensor:
    """Standard normal numbers (V, S, S) by Box and Muller's transform, for keys (V, 2) at positions (1, S, S).

    Positions are mixed before a key joins them: keys that are close would else give shifted copies of the same noise.
    """
    mixed = mix(positions)
    u, v = (mix(mixed ^ word[:, None, None]).to(dtype).add_(0.5).div_(WORD) for word in key.unbind(1))  # (V, S, S)
    return u.log_().mul_(-2).sqrt_().mul_(v.mul_(2 * math.pi).cos_())


def mix(x: Tensor) -> Tensor:
    """A bijection of 32-bit integers that spreads each bit over all: Wellons' lowbias32; x is int64 in [0, 2^32).

    Source: nullprogram.com/blog/2018/07/31 (two rounds of xor-shift and multiply). The second multiplier stands less
    2^32, the same modulo 2^32: no product leaves the range of int64.
    """
    x = (x ^ (x >> 16)).mul_(0x7FEB352D).bitwise_and_(WORD - 1)
    x = (x ^ (x >> 15)).mul_(0x846CA68B - WORD).bitwise_and_(WORD - 1)
    return x ^ (x >> 16)
