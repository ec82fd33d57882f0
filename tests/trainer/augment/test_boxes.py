import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms import RandomResizedCrop

from models.config import Augmentation
from trainer.augment import sample_parameters
from trainer.augment.crop import Crop

NUM_IMAGES = 4000
ALPHA = 1e-3  # seeds are fixed: a failure is a changed distribution


def sample(config: Augmentation, height: int, width: int, num_images: int = NUM_IMAGES) -> Crop:
    """Crops of images of one size."""
    heights, widths = torch.full((num_images,), height), torch.full((num_images,), width)
    return sample_parameters(config, heights, widths, 32, seed=11, step=12).start


def torchvision_crops(height: int, width: int, num_crops: int, config: Augmentation) -> np.ndarray:
    """Top, left, height and width by torchvision's get_params, (num_crops, 4)."""
    image = torch.empty(3, height, width)
    area, ratio = list(config.crop_area), list(config.crop_ratio)
    with torch.random.fork_rng():
        torch.manual_seed(13)
        return np.array([RandomResizedCrop.get_params(image, area, ratio) for _ in range(num_crops)])


@pytest.mark.parametrize(("height", "width"), [(60, 100), (100, 60), (32, 32), (20, 90)])
def test_crops_are_distributed_as_torchvisions(height: int, width: int) -> None:
    """Top, left, height, width and the shares of both follow torchvision's (two-sample Kolmogorov-Smirnov)."""
    drawn = sample(Augmentation(), height, width)
    ours = torch.stack((drawn.top, drawn.left, drawn.height, drawn.width), -1).flatten(0, 1).numpy()
    theirs = torchvision_crops(height, width, NUM_IMAGES, Augmentation())
    for column in range(4):
        assert stats.ks_2samp(ours[:, column], theirs[:, column]).pvalue > ALPHA
    for statistic in (lambda c: c[:, 2] * c[:, 3], lambda c: c[:, 3] / c[:, 2], lambda c: c[:, 0] + c[:, 2]):
        assert stats.ks_2samp(statistic(ours), statistic(theirs)).pvalue > ALPHA


@pytest.mark.parametrize(("height", "width"), [(10, 400), (400, 10), (3, 4), (1, 1)])
def test_a_crop_that_never_fits_falls_back_to_torchvisions_centre(height: int, width: int) -> None:
    """With an area of 100% and a ratio apart from the image's, all tries fail and the fallback is torchvision's."""
    config = Augmentation(crop_area=(1, 1), crop_ratio=(0.75, 4 / 3) if height * width > 12 else (1.1, 1.2))
    drawn = sample(config, height, width, 50)
    expected = {tuple(crop) for crop in torchvision_crops(height, width, 50, config).tolist()}
    ours = torch.stack((drawn.top, drawn.left, drawn.height, drawn.width), -1).flatten(0, 1).tolist()
    assert {tuple(crop) for crop in ours} == expected


def test_crops_stay_inside_images_of_any_size() -> None:
    """Every crop is at least one pixel and ends within its own image."""
    generator = torch.Generator().manual_seed(14)
    heights, widths = torch.randint(1, 300, (2, NUM_IMAGES), generator=generator)
    drawn = sample_parameters(Augmentation(), heights, widths, 32, seed=15, step=0).start
    assert min(drawn.top.min(), drawn.left.min()) >= 0
    assert min(drawn.height.min(), drawn.width.min()) >= 1
    assert torch.all(drawn.top + drawn.height <= heights)
    assert torch.all(drawn.left + drawn.width <= widths)
