"""Two random views of every image of a batch (Section 3, App. A), as tensor operations on the training device.

Legend: N images, G of them in a group, B of their two views changed, V = B N; H x W a group's padded size, S the
views' side. Inside this package views are planes, (3, V, S, S): red, green and blue are each one contiguous block,
which the matrix products write without a copy and the colour operations read at memory speed.
"""

import dataclasses
from functools import partial

import torch
from torch import Tensor

from models.config import Augmentation
from trainer.augment.blur import Blur
from trainer.augment.chain import apply
from trainer.augment.color import ColorJitter
from trainer.augment.crop import Crop, resized_crops
from trainer.augment.cutout import Cutout
from trainer.augment.draws import Stream
from trainer.augment.flip import Flip
from trainer.augment.grayscale import Grayscale
from trainer.augment.noise import Noise
from trainer.augment.operation import Operation
from trainer.augment.parameters import ViewParameters
from trainer.augment.rotation import Rotation
from trainer.augment.sobel import Sobel
from trainer.data import ImageBatch, ImageGroup, send

__all__ = ["ViewParameters", "cut_out", "random_crops", "sample_parameters", "two_views"]

OPERATIONS: dict[str, type[Operation]] = {  # Fig. 4
    "crop": Crop,  # a random box, resized to the view
    "flip": Flip,  # left to right
    "color_jitter": ColorJitter,  # brightness, contrast, saturation and hue in random order
    "grayscale": Grayscale,  # colour dropped
    "blur": Blur,  # Gaussian, a tenth of the view wide
    "cutout": Cutout,  # a gray square
    "rotation": Rotation,  # by 90, 180 or 270 degrees
    "noise": Noise,  # Gaussian
    "sobel": Sobel,  # edges
}
STREAMS = (*OPERATIONS, "shared_crop")  # a place is the number of a stream of random numbers


def sample_parameters(
    config: Augmentation, heights: Tensor, widths: Tensor, image_size: int, *, seed: int, step: int
) -> ViewParameters:
    """Parameters of both views of images of heights, widths (N,) int64, in pixels, on the CPU.

    The same for the same (config, seed, step), row by row: those of the first rows don't depend on N.
    """
    num_changed = 2 if config.branches == "both" else 1
    stream = partial(Stream, seed, step, len(heights), num_changed, image_size)
    streams = {name: stream(number) for number, name in enumerate(STREAMS)}
    start, names = _start(config, streams, heights, widths)
    operations = tuple(OPERATIONS[name].sample(config, streams[name]) for name in names)
    return ViewParameters(image_size, start, num_changed, operations)


def _start(config: Augmentation, streams: dict[str, Stream], heights: Tensor, widths: Tensor) -> tuple[Crop, list[str]]:
    """What is cut out of the stored images, and the operations that follow; those that never happen are left out."""
    names: list[str] = [name for name in config.operations if _can_happen(config, name)]
    if config.branches == "one":
        return Crop.of_images(config, streams["shared_crop"], heights, widths), names
    if names[:1] != ["crop"]:
        return Crop.centred(heights, widths), names
    crop = Crop.of_images(config, streams["crop"], heights, widths)
    if names[1:2] != ["flip"]:
        return crop, names[1:]
    flip = Flip.sample(config, streams["flip"])
    return dataclasses.replace(crop, flip=flip.active), names[2:]  # the crop's matrices flip at no cost


def _can_happen(config: Augmentation, name: str) -> bool:
    field = OPERATIONS[name].probability
    return field is None or getattr(config, field) > 0


def two_views(batch: ImageBatch, parameters: ViewParameters, *, compiled: bool = False) -> Tensor:
    """Both views of every image: (2N, 3, S, S) float32 in [0, 1], rows 0..N-1 are x1, rows N..2N-1 are x2.

    `parameters` are those of the batch's N images; `compiled` counts on CUDA only. The result is a transposed view of
    planes: bring it to the memory format that the encoder wants in one copy. Call it outside autocast, which would
    resample with 8 bits.
    """
    parameters = parameters.to(batch.groups[0].pixels.device)
    start = _crops(batch, parameters.start, parameters.image_size)  # (3, 2N, S, S) or, shared, (3, N, S, S)
    planes = start.repeat(1, parameters.num_changed, 1, 1) if parameters.start_is_shared else start  # (3, V, S, S)
    planes = apply(parameters.operations, planes, compiled=compiled)
    if parameters.num_changed == 1:
        planes = torch.cat((planes, start), 1)  # (3, 2N, S, S)
    return planes.transpose(0, 1)  # (2N, 3, S, S)


def random_crops(
    config: Augmentation, heights: Tensor, widths: Tensor, image_size: int, *, seed: int, step: int
) -> Crop:
    """Where x1 is cut out of each image, and whether it is flipped: (1, N), as in `sample_parameters`."""
    stream = partial(Stream, seed, step, len(heights), 1, image_size)
    crop = Crop.of_images(config, stream(STREAMS.index("crop")), heights, widths)
    return dataclasses.replace(crop, flip=Flip.sample(config, stream(STREAMS.index("flip"))).active)


def cut_out(batch: ImageBatch, crop: Crop, image_size: int) -> Tensor:
    """One crop of every image, (N, 3, S, S) float32 in [0, 1]: a transposed view of planes; see `two_views`."""
    return _crops(batch, crop, image_size).transpose(0, 1)  # (N, 3, S, S)


def _crops(batch: ImageBatch, crop: Crop, image_size: int) -> Tensor:
    """A batch's crops as planes (3, B N, S, S), view first; only here do the images' sizes count."""
    if len(batch.groups) == 1:
        return _group_crops(batch.groups[0], crop, image_size)
    device = batch.groups[0].pixels.device
    planes = torch.empty(3, *crop.top.shape, image_size, image_size, device=device)  # (3, B, N, S, S)
    for group in batch.groups:
        rows = send(group.rows, device)
        crops = _group_crops(group, crop.rows(rows), image_size)  # (3, B G, S, S)
        planes.index_copy_(2, rows, crops.view(3, -1, len(rows), image_size, image_size))
    return planes.flatten(1, 2)


def _group_crops(group: ImageGroup, crop: Crop, image_size: int) -> Tensor:
    images = group.pixels.to(torch.float32, memory_format=torch.contiguous_format).div_(255)  # (G, 3, H, W)
    return resized_crops(images, crop, image_size)
