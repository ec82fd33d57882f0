import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from models.config import Augmentation
from trainer.augment import ViewParameters, sample_parameters
from trainer.augment.crop import keys_kernel, resized_crops

SIZES = [(40, 64), (64, 40), (9, 70), (50, 50), (33, 47), (64, 64)]  # heights and widths of a ragged batch


def ragged_images(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Noise of SIZES in float64, each padded to 64 x 70 with more noise, which must not leak in."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand((len(SIZES), 3, 64, 70), dtype=torch.float64, generator=generator)
    heights, widths = torch.tensor(SIZES).unbind(1)
    return images, heights, widths


def torchvision_crop(image: torch.Tensor, parameters: ViewParameters, view: int, row: int) -> torch.Tensor:
    """The same crop by torchvision, whose bicubic may leave [0, 1] on float images."""
    crop = [int(values[view, row]) for values in (parameters.top, parameters.left, parameters.height, parameters.width)]
    size = [parameters.image_size] * 2
    resized = F.resized_crop(image, *crop, size, InterpolationMode.BICUBIC, antialias=True).clamp(0, 1)
    return F.horizontal_flip(resized) if parameters.flip[view, row] else resized


@pytest.mark.parametrize("image_size", [8, 31, 96])
def test_crops_equal_torchvisions_on_ragged_images(image_size: int) -> None:
    """Crop, antialiased bicubic resize and flip are torchvision's to 1e-12 in float64, shrinking and enlarging."""
    images, heights, widths = ragged_images(0)
    parameters = sample_parameters(Augmentation(), heights, widths, image_size, seed=1, step=2)
    planes = resized_crops(images, parameters).unflatten(1, (2, len(SIZES)))
    for view in range(2):
        for row, (height, width) in enumerate(SIZES):
            expected = torchvision_crop(images[row, :, :height, :width], parameters, view, row)
            torch.testing.assert_close(planes[:, view, row], expected, rtol=0, atol=1e-12)


def test_flipped_and_unflipped_views_were_compared() -> None:
    """The parameters of the comparison with torchvision hold flipped, unflipped, enlarged and shrunk views."""
    _, heights, widths = ragged_images(0)
    parameters = sample_parameters(Augmentation(), heights, widths, 31, seed=1, step=2)
    assert 0 < parameters.flip.sum() < parameters.flip.numel()
    assert parameters.width.min() < 31 < parameters.width.max()


def test_crops_are_pillows_within_one_level() -> None:
    """On uint8 images that don't overshoot, Pillow's BICUBIC differs by its two roundings alone."""
    images = torch.randint(80, 176, (4, 3, 50, 60), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    sizes = torch.full((4,), 50), torch.full((4,), 60)
    parameters = sample_parameters(Augmentation(flip_probability=0), *sizes, 32, seed=4, step=0)
    planes = resized_crops(images / 255, parameters).unflatten(1, (2, 4))
    for row in range(4):
        top, left = int(parameters.top[0, row]), int(parameters.left[0, row])
        box = (left, top, left + int(parameters.width[0, row]), top + int(parameters.height[0, row]))
        image = Image.fromarray(images[row].permute(1, 2, 0).numpy())
        expected = np.asarray(image.crop(box).resize((32, 32), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
        assert np.abs(255 * planes[:, 0, row].numpy() - expected).max() <= 1.5


def test_kernel_is_keys_polynomial() -> None:
    """The branchless kernel is the piecewise cubic of Keys with a = -1/2."""
    x = torch.linspace(-3, 3, 1201, dtype=torch.float64)
    t = x.abs()
    expected = torch.where(t < 1, 1.5 * t**3 - 2.5 * t**2 + 1, -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2)
    torch.testing.assert_close(keys_kernel(x.clone()), torch.where(t < 2, expected, 0), rtol=0, atol=1e-14)
