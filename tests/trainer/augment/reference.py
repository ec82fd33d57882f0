"""Every operation of Fig. 4 image by image: by torchvision where it has it, else by its formula."""

from typing import Any

import numpy as np
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from trainer.augment import ViewParameters
from trainer.augment.color import BRIGHTNESS, CONTRAST, SATURATION
from trainer.augment.operation import Operation


def view(image: torch.Tensor, parameters: ViewParameters, number: int, row: int) -> torch.Tensor:
    """View 0 or 1 of one (3, H, W) uint8 image, the batch's `row`-th, operation after operation."""
    size = parameters.image_size
    x = resized_crop(image / 255, values_of(parameters.start, min(number, len(parameters.start.top) - 1), row), size)
    if number < parameters.num_changed:
        for operation in parameters.operations:
            x = changed(x, operation, number, row)
    return x


def changed(x: torch.Tensor, operation: Operation, number: int, row: int) -> torch.Tensor:
    """One (3, S, S) view after one operation."""
    return FUNCTIONS[type(operation).__name__](x, values_of(operation, number, row))


def values_of(operation: Operation, number: int, row: int) -> dict[str, Any]:
    return {name: tensor[number, row].tolist() for name, tensor in vars(operation).items()}


def resized_crop(x: torch.Tensor, value: dict[str, Any], size: int) -> torch.Tensor:
    crop = [value[name] for name in ("top", "left", "height", "width")]
    x = F.resized_crop(x, *crop, [size, size], InterpolationMode.BICUBIC, antialias=True).clamp(0, 1)
    return F.horizontal_flip(x) if value["flip"] else x


def color_jitter(x: torch.Tensor, value: dict[str, Any]) -> torch.Tensor:
    for operation in value["order"]:
        if operation == BRIGHTNESS:
            x = (value["brightness"] * x + value["brightness_offset"]).clamp(0, 1)
        elif operation == CONTRAST:
            x = F.adjust_contrast(x, value["contrast"])
        elif operation == SATURATION:
            x = F.adjust_saturation(x, value["saturation"])
        else:
            x = F.adjust_hue(x, value["hue_shift"])
    return x


def blur(x: torch.Tensor, value: dict[str, Any]) -> torch.Tensor:
    taps = 2 * (x.shape[-1] // 10 // 2) + 1
    return F.gaussian_blur(x, [taps, taps], [value["sigma"]] * 2) if value["sigma"] else x


def cutout(x: torch.Tensor, value: dict[str, Any]) -> torch.Tensor:
    top, left = max(value["top"], 0), max(value["left"], 0)
    height, width = value["top"] + value["side"] - top, value["left"] + value["side"] - left
    return F.erase(x, top, left, height, width, torch.tensor(0.5, dtype=x.dtype)) if value["side"] else x


def noise(x: torch.Tensor, value: dict[str, Any]) -> torch.Tensor:
    """Box and Muller's transform of two 32-bit hashes of every position."""
    positions = hashed(np.arange(x.numel(), dtype=np.uint32).reshape(x.shape))
    u, v = ((hashed(positions ^ np.uint32(word)) + 0.5) / 2**32 for word in value["key"])
    normal = np.sqrt(-2 * np.log(u)) * np.cos(2 * np.pi * v)
    return (x + value["sigma"] * torch.from_numpy(normal)).clamp(0, 1).to(x.dtype)


def hashed(x: np.ndarray) -> np.ndarray:
    """Wellons' lowbias32 in NumPy's uint32, which wraps."""
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B)
    return x ^ (x >> np.uint32(16))


def sobel(x: torch.Tensor, value: dict[str, Any]) -> torch.Tensor:
    if not value["active"]:
        return x
    kernel = torch.tensor([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], dtype=x.dtype)
    padded = torch.nn.functional.pad(x[:, None], (1, 1, 1, 1), mode="reflect")  # (3, 1, S + 2, S + 2)
    gx, gy = (torch.conv2d(padded, k[None, None]) for k in (kernel, kernel.T))
    return torch.hypot(gx, gy).squeeze(1).clamp(0, 1)


FUNCTIONS = {
    "Crop": lambda x, value: resized_crop(x, value, x.shape[-1]),
    "Flip": lambda x, value: F.horizontal_flip(x) if value["active"] else x,
    "ColorJitter": color_jitter,
    "Grayscale": lambda x, value: F.rgb_to_grayscale(x, num_output_channels=3) if value["active"] else x,
    "Blur": blur,
    "Cutout": cutout,
    "Rotation": lambda x, value: F.rotate(x, 90 * value["quarter_turns"]),
    "Noise": noise,
    "Sobel": sobel,
}
