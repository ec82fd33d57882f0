"""Random resized crop and flip as two small matrices an image: view = Wy @ image @ Wx^T.

The matrices hold Pillow's antialiased bicubic kernel, so they resample exactly what cropping first would, on
images of any size padded to a common one, without a gather.

Legend: N images, B crops of each, V = B N; H x W the images' padded size, S the views' side.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from models.config import Augmentation
from trainer.augment.boxes import Boxes, centred_boxes, random_boxes
from trainer.augment.draws import Stream
from trainer.augment.operation import Operation
from trainer.augment.products import tensor_cores

LARGEST_BATCHED = 64  # pixels; a CPU's products for a larger view cost more than a call for each


@dataclass(frozen=True)
class Crop(Operation):
    """A random box of the image, resized to the view."""

    compiles: ClassVar[bool] = False
    top: Tensor  # (B, N) int64, as are left, height and width: pixels
    left: Tensor
    height: Tensor
    width: Tensor
    flip: Tensor  # (B, N) bool: mirrored left to right, which costs nothing here

    @classmethod
    def sample(cls, config: Augmentation, stream: Stream) -> Self:
        """Boxes of square planes."""
        return cls._unflipped(random_boxes(config, stream, stream.image_size, stream.image_size))

    @classmethod
    def of_images(cls, config: Augmentation, stream: Stream, heights: Tensor, widths: Tensor) -> Self:
        """Boxes of images of heights, widths (N,) int64."""
        return cls._unflipped(random_boxes(config, stream, heights.numpy(), widths.numpy()))

    @classmethod
    def centred(cls, heights: Tensor, widths: Tensor) -> Self:
        """The largest centred square of images of heights, widths (N,) int64, one for both views."""
        return cls._unflipped(centred_boxes(heights.numpy(), widths.numpy()))

    @classmethod
    def _unflipped(cls, boxes: Boxes) -> Self:
        top, left, height, width = (torch.from_numpy(values) for values in boxes)
        return cls(top, left, height, width, torch.zeros_like(top, dtype=torch.bool))

    def __call__(self, planes: Tensor) -> Tensor:
        each_its_own = self._each(lambda values: values.reshape(1, -1))  # (1, V)
        return resized_crops(planes.transpose(0, 1), each_its_own, planes.shape[-1])


def resized_crops(images: Tensor, crop: Crop, image_size: int) -> Tensor:
    """Crops of images, (N, 3, H, W) float in [0, 1], as planes (3, B N, S, S) in [0, 1], view first.

    A CPU resamples large views one by one: it can leave out all that lies outside a box and beyond the kernel.
    """
    one_by_one = images.device.type == "cpu" and image_size > LARGEST_BATCHED
    planes = (crops_one_by_one if one_by_one else crops_by_products)(images, crop, image_size)  # (3, B, N, S, S)
    return planes.clamp_(0, 1).flatten(1, 2)  # bicubic overshoots at edges


def crops_one_by_one(images: Tensor, crop: Crop, image_size: int) -> Tensor:
    """Crops of images (N, 3, H, W), as planes (3, B, N, S, S), each resampled by torch: 0.3 ms of a CPU at 224."""
    planes = images.new_empty(3, *crop.top.shape, image_size, image_size)
    boxes = torch.stack((crop.top, crop.left, crop.height, crop.width, crop.flip), -1)  # (B, N, 5)
    for view, boxes_of_view in enumerate(boxes.tolist()):
        for row, (top, left, height, width, flip) in enumerate(boxes_of_view):
            box = images[None, row, :, top : top + height, left : left + width]  # (1, 3, height, width)
            (resized,) = interpolate(box, size=(image_size, image_size), mode="bicubic", antialias=True)
            planes[:, view, row] = resized.flip(-1) if flip else resized
    return planes


def crops_by_products(images: Tensor, crop: Crop, image_size: int) -> Tensor:
    """Crops of images (N, 3, H, W), as planes (3, B, N, S, S), all at once."""
    N, _, H, W = images.shape
    B, S = len(crop.top), image_size
    wx = resampling_matrix(crop.left, crop.width, crop.flip, W, S, images.dtype)  # (B, N, S, W)
    wy = resampling_matrix(crop.top, crop.height, torch.zeros_like(crop.flip), H, S, images.dtype)
    planes = images.new_empty(3, B, N, S, S)
    with tensor_cores():
        for view in range(B):
            rows = torch.bmm(images.reshape(N, 3 * H, W), wx[view].mT).view(N, 3, H, S)
            for channel in range(3):  # one product for all three would copy wy three times
                torch.bmm(wy[view], rows[:, channel], out=planes[channel, view])
    return planes


def resampling_matrix(
    start: Tensor, length: Tensor, reverse: Tensor, size_in: int, size_out: int, dtype: torch.dtype
) -> Tensor:
    """Weights (..., size_out, size_in) that resize pixels start .. start + length of a line to `size_out`.

    start, length (...) are in pixels; where `reverse`, (...) bool, the result is mirrored. Each row sums to 1.
    """
    device = start.device
    start, length = start[..., None].to(dtype), length[..., None].to(dtype)
    scale = length / size_out
    reach = scale.clamp(min=1)  # shrinking widens the kernel to cover every pixel it merges
    steps = torch.arange(size_out, device=device, dtype=dtype) + 0.5
    centers = torch.where(reverse[..., None], size_out - steps, steps) * scale  # (..., size_out), from the start
    pixels = torch.arange(size_in, device=device, dtype=dtype) + 0.5 - start  # (..., size_in)
    inside = (pixels > 0) & (pixels < length)
    pixels = torch.where(inside, pixels / reach, torch.inf)  # infinitely far: no weight
    weights = keys_kernel(pixels[..., None, :] - (centers / reach)[..., None])
    return weights.div_(weights.sum(-1, keepdim=True))


def keys_kernel(x: Tensor) -> Tensor:
    """Keys' cubic with a = -1/2, the kernel of Pillow's BICUBIC; `x` is overwritten.

    With t = |x|: 1.5 t^3 - 2.5 t^2 + 1 up to 1, -0.5 t^3 + 2.5 t^2 - 4 t + 2 up to 2, then 0. In the distances to
    the knots, u = max(2 - t, 0) and v = max(1 - t, 0), that is u^2 (u - 1) / 2 + v^2 (1 - 2 v) without a branch.
    """
    t = x.abs_()
    u = (2 - t).clamp_(min=0)
    v = t.neg_().add_(1).clamp_(min=0)
    inner = (1 - 2 * v).mul_(v).mul_(v)
    return u.sub(1).mul_(u).mul_(u).mul_(0.5).add_(inner)
