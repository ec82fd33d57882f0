"""Two random views of every image of a batch (App. A), as tensor operations on the training device.

Legend: N images, G of them in a group, V = 2N views, H x W a group's padded size, S the views' side.
Inside this package views are planes, (3, V, S, S): red, green and blue are each one contiguous block, which
the matrix products write without a copy and the colour operations read at memory speed.
"""

import torch
from torch import Tensor

from trainer.augment.blur import blur
from trainer.augment.color import jitter_colors, to_gray
from trainer.augment.crop import resized_crops
from trainer.augment.parameters import ViewParameters, sample_parameters
from trainer.augment.rows import on_rows
from trainer.data import ImageBatch, ImageGroup, send

__all__ = ["ViewParameters", "sample_parameters", "two_views"]


def two_views(batch: ImageBatch, parameters: ViewParameters) -> Tensor:
    """Both views of every image: (2N, 3, S, S) float32 in [0, 1], rows 0..N-1 are x1, rows N..2N-1 are x2.

    `parameters` are those of the batch's N images. The result is a transposed view of planes: bring it to the
    memory format that the encoder wants in one copy. Call it outside autocast, which would resample with 8 bits.
    """
    parameters = parameters.to(batch.groups[0].pixels.device)
    planes = _crops(batch, parameters)  # (3, 2N, S, S)
    planes = jitter_colors(planes, parameters)
    planes = on_rows(planes, parameters.grayscale.flatten(), to_gray)
    if parameters.blur_sigma is not None:
        planes = blur(planes, parameters.blur_sigma.flatten())
    return planes.transpose(0, 1)  # (2N, 3, S, S)


def _crops(batch: ImageBatch, parameters: ViewParameters) -> Tensor:
    """Both views' crops of a batch as planes (3, 2N, S, S); only here do the images' sizes count."""
    if len(batch.groups) == 1:
        return _group_crops(batch.groups[0], parameters)
    N, S, device = len(batch.heights), parameters.image_size, batch.groups[0].pixels.device
    planes = torch.empty(3, 2 * N, S, S, device=device)
    for group in batch.groups:
        rows = send(group.rows, device)
        crops = _group_crops(group, parameters.rows(rows))  # (3, 2G, S, S)
        planes.index_copy_(1, torch.cat((rows, N + rows)), crops)
    return planes


def _group_crops(group: ImageGroup, parameters: ViewParameters) -> Tensor:
    images = group.pixels.to(torch.float32, memory_format=torch.contiguous_format).div_(255)  # (G, 3, H, W)
    return resized_crops(images, parameters)
