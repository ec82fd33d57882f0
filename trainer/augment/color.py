"""Colour jitter and grayscale; every operation is torchvision's, with per-view parameters.

Legend: V views, S their side.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from trainer.augment.parameters import BRIGHTNESS, CONTRAST, HUE, SATURATION, ViewParameters
from trainer.augment.rows import on_rows


def jitter_colors(planes: Tensor, parameters: ViewParameters) -> Tensor:
    """Brightness, contrast, saturation and hue in each view's own order, clipped to [0, 1] after each.

    Planes are (3, V, S, S) float in [0, 1] and may be overwritten. All but hue have one form,
    x <- scale x + a gray(x) + b mean(gray(x)) + c, so one pass a position serves every view whatever it does there.
    """
    for scale, gray_share, mean_share, offset, shift in _steps(parameters, planes.dtype):
        gray = luma(planes)  # (V, S, S)
        constant = torch.addcmul(offset, mean_share, gray.mean((1, 2), keepdim=True))
        gray.mul_(gray_share).add_(constant)
        torch.addcmul(gray, planes, scale, out=planes)
        planes = on_rows(planes, shift.flatten() != 0, shift_hue, shift).clamp_(0, 1)
    return planes


def _steps(parameters: ViewParameters, dtype: torch.dtype) -> Iterator[tuple[Tensor, ...]]:
    """For the first to the fourth operation: scale, a, b, c of `jitter_colors` and the hue's shift, (V, 1, 1) each."""
    neutral = torch.ones_like(parameters.brightness)
    factors = torch.stack((parameters.brightness, parameters.contrast, parameters.saturation, neutral), -1)  # (2, N, 4)
    order = parameters.order  # (2, N, 4)
    scale = factors.to(dtype).gather(-1, order)
    gray_share = torch.where(order == SATURATION, 1 - scale, 0)
    mean_share = torch.where(order == CONTRAST, 1 - scale, 0)
    offset = torch.where(order == BRIGHTNESS, parameters.brightness_offset[..., None].to(dtype), 0)
    shift = torch.where(order == HUE, parameters.hue_shift[..., None].to(dtype), 0)
    steps = torch.stack((scale, gray_share, mean_share, offset, shift)).flatten(1, 2)  # (5, V, 4)
    return (step[..., None, None].unbind() for step in steps.unbind(-1))


def luma(planes: Tensor) -> Tensor:
    """Planes (3, V, S, S) as gray (V, S, S)."""
    red, green, blue = planes.unbind()
    return (0.2989 * red).add_(green, alpha=0.587).add_(blue, alpha=0.114)


def to_gray(planes: Tensor) -> Tensor:
    """Planes (3, V, S, S), all three equal to the views' gray."""
    return luma(planes).expand_as(planes)


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
