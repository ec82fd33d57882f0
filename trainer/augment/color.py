"""Colour jitter; every operation is torchvision's, with per-view parameters.

Legend: N images, B views of each, V = B N; S their side.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from models.config import Augmentation
from trainer.augment.draws import Stream, as_float32, uniform
from trainer.augment.grayscale import luma
from trainer.augment.operation import Operation
from trainer.augment.rows import on_rows

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
ORDERS = np.array(list(itertools.permutations(range(4))))  # (24, 4)


@dataclass(frozen=True)
class ColorJitter(Operation):
    """Brightness, contrast, saturation and hue in random order; tensors are (B, N) float32, but `order`."""

    probability: ClassVar[str] = "color_probability"
    order: Tensor  # (B, N, 4) int64: the four operations, first to last
    brightness: Tensor  # factors; 1 where the view's colours stay
    brightness_offset: Tensor
    contrast: Tensor
    saturation: Tensor
    hue_shift: Tensor  # turns

    @classmethod
    def sample(cls, config: Augmentation, stream: Stream) -> Self:
        coin, *factors, hue, order = stream.columns(6)
        jittered = coin < config.color_probability
        widths = 0.8 * config.color_strength, 0.2 * config.color_strength
        low, high = max(0, 1 - widths[0]), 1 + widths[0]
        brightness, contrast, saturation = (np.where(jittered, uniform(u, low, high), 1) for u in factors)
        offset = np.where(jittered, uniform(factors[0], -widths[0], widths[0]), 0)
        additive = config.brightness == "additive"
        return cls(
            order=torch.from_numpy(ORDERS[(len(ORDERS) * order).astype(np.int64)]),
            brightness=as_float32(np.ones_like(offset) if additive else brightness),
            brightness_offset=as_float32(offset if additive else np.zeros_like(offset)),
            contrast=as_float32(contrast),
            saturation=as_float32(saturation),
            hue_shift=as_float32(np.where(jittered, uniform(hue, -widths[1], widths[1]), 0)),
        )

    def __call__(self, planes: Tensor) -> Tensor:
        return jitter_colors(planes, self)


def jitter_colors(planes: Tensor, jitter: ColorJitter) -> Tensor:
    """Brightness, contrast, saturation and hue in each view's own order, clipped to [0, 1] after each.

    Planes are (3, V, S, S) float in [0, 1] and may be overwritten. All but hue have one form,
    x <- scale x + a gray(x) + b mean(gray(x)) + c, so one pass a position serves every view whatever it does there.
    """
    for scale, gray_share, mean_share, offset, shift in _steps(jitter, planes.dtype):
        gray = luma(planes)  # (V, S, S)
        constant = torch.addcmul(offset, mean_share, gray.mean((1, 2), keepdim=True))
        gray.mul_(gray_share).add_(constant)
        torch.addcmul(gray, planes, scale, out=planes)
        planes = on_rows(planes, shift.flatten() != 0, shift_hue, shift).clamp_(0, 1)
    return planes


def _steps(jitter: ColorJitter, dtype: torch.dtype) -> Iterator[tuple[Tensor, ...]]:
    """For the first to the fourth operation: scale, a, b, c of `jitter_colors` and the hue's shift, (V, 1, 1) each."""
    neutral = torch.ones_like(jitter.brightness)
    factors = torch.stack((jitter.brightness, jitter.contrast, jitter.saturation, neutral), -1)  # (B, N, 4)
    order = jitter.order  # (B, N, 4)
    scale = factors.to(dtype).gather(-1, order)
    gray_share = torch.where(order == SATURATION, 1 - scale, 0)
    mean_share = torch.where(order == CONTRAST, 1 - scale, 0)
    offset = torch.where(order == BRIGHTNESS, jitter.brightness_offset[..., None].to(dtype), 0)
    shift = torch.where(order == HUE, jitter.hue_shift[..., None].to(dtype), 0)
    steps = torch.stack((scale, gray_share, mean_share, offset, shift)).flatten(1, 2)  # (5, V, 4)
    return (step[..., None, None].unbind() for step in steps.unbind(-1))


def shift_hue(planes: Tensor, shift: Tensor) -> Tensor:
    """Planes (3, V, S, S) with their hue turned by shift (V, 1, 1), in turns; in HSV, value and saturation stay.

    Around the hexagon of hues, in sixths of a turn from red, a pixel of chroma d = max - min lies at
    |h| = 1 + (g + b - r - min) / d, on green's side (h > 0) where g > b. Back, the channel whose pure hue is a
    distance D away is min + d clamp(2 - D, 0, 1). With y = h - pure hue, 2 - D = ||y| - 3| - 1 up to |y| = 6, a turn;
    the clamp makes it true up to 7, as far as y goes.
    """
    red, green, blue = planes.unbind()
    low = torch.minimum(torch.minimum(red, green), blue)
    chroma = torch.maximum(torch.maximum(red, green), blue).sub_(low)
    hue = (green + blue).sub_(red).sub_(low).div_(chroma.clamp(min=torch.finfo(planes.dtype).tiny)).add_(1)
    hue = hue.copysign_(green - blue).add_(shift, alpha=6)
    hue.sub_((hue / 6).round_(), alpha=6)  # (V, S, S), within half a turn
    pure_hues = torch.arange(0, 6, 2, device=planes.device, dtype=planes.dtype).view(3, 1, 1, 1)
    shares = (hue - pure_hues).abs_().sub_(3).abs_().sub_(1).clamp_(0, 1)  # (3, V, S, S)
    return torch.addcmul(low, shares, chroma)
