"""Batches of a packed data set's images, gathered on the device that trains.

Legend: N images a batch, G of them of similar shape, H x W the largest height and width among these; P bytes in the
pack, M images in the store.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from models.config import Preprocessing
from models.preprocess import to_input
from trainer.pack import Pack

ORDER_STREAM = 0  # sets these random numbers apart from others drawn with the recipe's seed


@dataclass(frozen=True)
class ImageGroup:
    """G images of a batch, padded to a common size."""

    rows: Tensor  # (G,) int64, ascending: which of the batch's images; on the CPU
    pixels: Tensor  # (G, 3, H, W) uint8, images at the top left, any bytes beyond them; on the training device


@dataclass(frozen=True)
class ImageBatch:
    """N images in groups of similar shape, so that a long one doesn't pad all others to its length."""

    groups: list[ImageGroup]  # each of the N rows is in one of them
    heights: Tensor  # (N,) int64, on the CPU, where views are drawn
    widths: Tensor  # the same


class ImageStore:
    """Images of a pack: on the GPU as a whole where they fit, else in the mapped file.

    Args:
        pack: The data set.
        positions: (M,) int64, the images of the pack that the store holds.
        device: Where batches go.
    """

    def __init__(self, pack: Pack, positions: NDArray[np.int64], device: torch.device) -> None:
        self.device = device
        self.offsets = torch.from_numpy(pack.offsets[positions])  # (M,)
        self.heights = torch.from_numpy(pack.heights[positions].astype(np.int64))
        self.widths = torch.from_numpy(pack.widths[positions].astype(np.int64))
        self._shapes = shape_classes(self.heights, self.widths)  # (M,)
        self._is_mixed = len(np.unique(self._shapes)) > 1
        pixels = from_dlpack(np.asarray(pack.pixels))  # (P,) uint8; from_numpy would warn that it is read-only
        self._pixels = pixels.to(device) if _fits(pixels, device) else pixels

    def __len__(self) -> int:
        return len(self.offsets)

    def batch(self, indices: Tensor) -> ImageBatch:
        """The images at `indices`, (N,) int64, counted within the store."""
        if self._is_mixed:
            groups = [ImageGroup(rows, self._padded(indices[rows])) for rows in rows_by_value(self._shapes[indices])]
        else:
            groups = [ImageGroup(torch.arange(len(indices)), self._padded(indices))]
        return ImageBatch(groups, self.heights[indices], self.widths[indices])

    def _padded(self, indices: Tensor) -> Tensor:
        """The images at `indices`, (G,), as (G, 3, H, W).

        Beyond an image is what the pack has next: crops give no weight to it, and to clear it would cost more than to
        gather.
        """
        heights, widths = self.heights[indices], self.widths[indices]
        H, W = int(heights.max()), int(widths.max())
        y = torch.arange(H).minimum(heights[:, None] - 1)  # (G, H); beyond the image its last line again
        line_starts = self.offsets[indices, None] + 3 * y * widths[:, None]
        lines = self._pixels.unfold(0, 3 * W, 1)  # (P - 3 W + 1, 3 W), a view: the bytes from any start
        pixels = lines.index_select(0, send(line_starts.flatten(), lines.device)).view(-1, H, W, 3)
        return send(pixels, self.device).permute(0, 3, 1, 2)


def shape_classes(heights: Tensor, widths: Tensor) -> Tensor:
    """Integers (M,), equal where both heights (M,) and widths have the same power of two as their floor.

    Padded to the largest of its class, an image grows less than twofold in each direction. Portraits have classes of
    their own: among landscapes all would be padded to squares.
    """
    (_, h), (_, w) = torch.frexp(heights.double()), torch.frexp(widths.double())
    return 2 * (64 * h + w) + (heights > widths)


def rows_by_value(values: Tensor) -> list[Tensor]:
    """Where each value that occurs in `values`, (N,), does: ascending int64 rows, together 0..N-1."""
    return [(values == value).nonzero().squeeze(1) for value in np.unique(values).tolist()]


def send(values: Tensor, device: torch.device) -> Tensor:
    """The values on `device`; a copy to the GPU starts from pinned memory, so the host doesn't wait for it."""
    if values.device.type == device.type:
        return values
    return values.pin_memory().to(device, non_blocking=True)


def _fits(pixels: Tensor, device: torch.device) -> bool:
    """Whether half of the device's free memory takes the pixels, which leaves the other half to training."""
    return device.type == "cuda" and pixels.nbytes <= torch.cuda.mem_get_info(device)[0] // 2


def epoch_order(num_images: int, *, seed: int, epoch: int) -> Tensor:
    """The order of an epoch's images, (num_images,) int64 on the CPU; the same in every process."""
    return torch.from_numpy(np.random.default_rng((ORDER_STREAM, seed, epoch)).permutation(num_images))


def model_inputs(pack: Pack, positions: NDArray[np.int64], preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """The images at `positions`, (M,), as the encoder is served them: (M, S, S, 3) uint8."""
    return np.stack([to_input(image, preprocessing) for image in pack.images(positions)])
