from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image

from models.config import Augmentation
from tests.trainer.augment import reference
from tests.trainer.augment.drawn import noise_images
from trainer.augment import sample_parameters
from trainer.augment.crop import Crop, crops_by_products, crops_one_by_one, keys_kernel, resized_crops
from trainer.augment.draws import Stream

SIZES = [(40, 64), (64, 40), (9, 70), (50, 50), (33, 47), (64, 64)]  # heights and widths of a ragged batch


def ragged_images(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Noise of SIZES in float64, each padded to 64 x 70 with more noise, which must not leak in."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand((len(SIZES), 3, 64, 70), dtype=torch.float64, generator=generator)
    heights, widths = torch.tensor(SIZES).unbind(1)
    return images, heights, widths


@pytest.mark.parametrize("resample", [crops_by_products, crops_one_by_one])
@pytest.mark.parametrize("image_size", [8, 31, 96])
def test_crops_equal_torchvisions_on_ragged_images(
    image_size: int, resample: Callable[[torch.Tensor, Crop, int], torch.Tensor]
) -> None:
    """Crop, antialiased bicubic resize and flip are torchvision's to 1e-12 in float64, shrinking and enlarging."""
    images, heights, widths = ragged_images(0)
    parameters = sample_parameters(Augmentation(), heights, widths, image_size, seed=1, step=2)
    planes = resample(images, parameters.start, image_size).clamp(0, 1)
    for view in range(2):
        for row, (height, width) in enumerate(SIZES):
            value = reference.values_of(parameters.start, view, row)
            expected = reference.resized_crop(images[row, :, :height, :width], value, image_size)
            torch.testing.assert_close(planes[:, view, row], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("image_size", [64, 65])
def test_small_and_large_views_are_resampled_alike(image_size: int) -> None:
    """The size at which a CPU changes its way changes no view: batch layout, range and order of views are the same."""
    images, heights, widths = ragged_images(5)
    crop = sample_parameters(Augmentation(), heights, widths, image_size, seed=1, step=2).start
    expected = crops_by_products(images, crop, image_size).clamp(0, 1).flatten(1, 2)
    torch.testing.assert_close(resized_crops(images, crop, image_size), expected, rtol=0, atol=1e-12)


def test_flipped_and_unflipped_views_were_compared() -> None:
    """The parameters of the comparison with torchvision hold flipped, unflipped, enlarged and shrunk views."""
    _, heights, widths = ragged_images(0)
    crop = sample_parameters(Augmentation(), heights, widths, 31, seed=1, step=2).start
    assert 0 < crop.flip.sum() < crop.flip.numel()
    assert crop.width.min() < 31 < crop.width.max()


def test_crops_are_pillows_within_one_level() -> None:
    """On uint8 images that don't overshoot, Pillow's BICUBIC differs by its two roundings alone."""
    images = torch.randint(80, 176, (4, 3, 50, 60), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    sizes = torch.full((4,), 50), torch.full((4,), 60)
    crop = sample_parameters(Augmentation(flip_probability=0), *sizes, 32, seed=4, step=0).start
    planes = resized_crops(images / 255, crop, 32).unflatten(1, (2, 4))
    for row in range(4):
        top, left = int(crop.top[0, row]), int(crop.left[0, row])
        box = (left, top, left + int(crop.width[0, row]), top + int(crop.height[0, row]))
        image = Image.fromarray(images[row].permute(1, 2, 0).numpy())
        expected = np.asarray(image.crop(box).resize((32, 32), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
        assert np.abs(255 * planes[:, 0, row].numpy() - expected).max() <= 1.5


def test_kernel_is_keys_polynomial() -> None:
    """The branchless kernel is the piecewise cubic of Keys with a = -1/2."""
    x = torch.linspace(-3, 3, 1201, dtype=torch.float64)
    t = x.abs()
    expected = torch.where(t < 1, 1.5 * t**3 - 2.5 * t**2 + 1, -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2)
    torch.testing.assert_close(keys_kernel(x.clone()), torch.where(t < 2, expected, 0), rtol=0, atol=1e-14)


def test_a_crop_of_planes_is_torchvisions() -> None:
    """Where the crop isn't the first operation it cuts boxes out of the square planes, as torchvision does."""
    crop = Crop.sample(Augmentation(), Stream(1, 2, 5, 2, 24, 0))
    planes = noise_images(10, 24)
    result = crop(planes.clone())
    for index in range(10):
        value = reference.values_of(crop, *divmod(index, 5))
        torch.testing.assert_close(
            result[:, index], reference.resized_crop(planes[:, index], value, 24), rtol=0, atol=1e-12
        )


def test_the_centre_is_the_largest_square_in_the_middle() -> None:
    """The centre of a 9 x 70 image is its columns 30..38, of a 64 x 40 image its rows 12..51; nothing is flipped."""
    crop = Crop.centred(torch.tensor([9, 64, 5]), torch.tensor([70, 40, 5]))
    assert torch.stack((crop.top, crop.left, crop.height, crop.width), -1).tolist() == [
        [[0, 30, 9, 9], [12, 0, 40, 40], [0, 0, 5, 5]]
    ]
    assert not crop.flip.any()
