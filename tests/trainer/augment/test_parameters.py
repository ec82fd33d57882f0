from collections import Counter

import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms import RandomResizedCrop

from models.config import Augmentation
from trainer.augment import ViewParameters, sample_parameters

NUM_IMAGES = 4000
ALPHA = 1e-3  # seeds are fixed: a failure is a changed distribution


def sample(config: Augmentation, *, height: int = 60, width: int = 100, num_images: int = NUM_IMAGES) -> ViewParameters:
    """Parameters of images of one size."""
    heights, widths = torch.full((num_images,), height), torch.full((num_images,), width)
    return sample_parameters(config, heights, widths, 32, seed=11, step=12)


def tensors(parameters: ViewParameters) -> dict[str, torch.Tensor]:
    """The fields that are drawn."""
    return {name: value for name, value in vars(parameters).items() if isinstance(value, torch.Tensor)}


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
    drawn = sample(Augmentation(), height=height, width=width)
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
    drawn = sample(config, height=height, width=width, num_images=50)
    expected = {tuple(crop) for crop in torchvision_crops(height, width, 50, config).tolist()}
    ours = torch.stack((drawn.top, drawn.left, drawn.height, drawn.width), -1).flatten(0, 1).tolist()
    assert {tuple(crop) for crop in ours} == expected


def test_crops_stay_inside_images_of_any_size() -> None:
    """Every crop is at least one pixel and ends within its own image."""
    generator = torch.Generator().manual_seed(14)
    heights, widths = torch.randint(1, 300, (2, NUM_IMAGES), generator=generator)
    drawn = sample_parameters(Augmentation(), heights, widths, 32, seed=15, step=0)
    assert min(drawn.top.min(), drawn.left.min()) >= 0
    assert min(drawn.height.min(), drawn.width.min()) >= 1
    assert torch.all(drawn.top + drawn.height <= heights)
    assert torch.all(drawn.left + drawn.width <= widths)


@pytest.mark.parametrize("strength", [0.5, 1.0, 2.0])
def test_colour_factors_are_uniform(strength: float) -> None:
    """Factors are U[max(0, 1 - 0.8 s), 1 + 0.8 s] and hue is U[-0.2 s, 0.2 s] (Kolmogorov-Smirnov)."""
    drawn = sample(Augmentation(color_strength=strength, color_probability=1))
    low, high = max(0, 1 - 0.8 * strength), 1 + 0.8 * strength
    for factor in (drawn.brightness, drawn.contrast, drawn.saturation):
        assert stats.kstest(factor.flatten(), stats.uniform(low, high - low).cdf).pvalue > ALPHA
    hue = stats.uniform(-0.2 * strength, 0.4 * strength)
    assert stats.kstest(drawn.hue_shift.flatten(), hue.cdf).pvalue > ALPHA
    assert not drawn.brightness_offset.any()


def test_additive_brightness_is_uniform_around_zero() -> None:
    """`brightness: additive` adds U[-0.8 s, 0.8 s] and leaves the factor at 1."""
    drawn = sample(Augmentation(color_strength=0.5, color_probability=1, brightness="additive"))
    assert stats.kstest(drawn.brightness_offset.flatten(), stats.uniform(-0.4, 0.8).cdf).pvalue > ALPHA
    assert torch.all(drawn.brightness == 1)


def test_blur_sigma_is_uniform_where_it_is_not_zero() -> None:
    """Sigma is U[0.1, 2] with probability p, else 0; a recipe without blur draws none."""
    drawn = sample(Augmentation(blur_probability=0.5)).blur_sigma
    assert drawn is not None
    blurred = drawn[drawn > 0]
    assert stats.binomtest(len(blurred), drawn.numel(), 0.5).pvalue > ALPHA
    assert stats.kstest(blurred, stats.uniform(0.1, 1.9).cdf).pvalue > ALPHA
    assert sample(Augmentation(blur_probability=0)).blur_sigma is None


def test_coins_fall_with_their_probabilities() -> None:
    """Flip, jitter and grayscale happen with the recipe's probabilities."""
    drawn = sample(Augmentation(flip_probability=0.5, color_probability=0.8, grayscale_probability=0.2))
    for coin, probability in ((drawn.flip, 0.5), (drawn.hue_shift != 0, 0.8), (drawn.grayscale, 0.2)):
        assert stats.binomtest(int(coin.sum()), coin.numel(), probability).pvalue > ALPHA


def test_colour_parameters_stay_neutral_without_jitter() -> None:
    """Where a view isn't jittered all its factors are 1 and its shifts 0."""
    drawn = sample(Augmentation(color_probability=0.8))
    plain = drawn.hue_shift == 0
    assert torch.all(torch.stack((drawn.brightness, drawn.contrast, drawn.saturation))[:, plain] == 1)
    assert torch.all(torch.stack((drawn.brightness, drawn.contrast, drawn.saturation))[:, ~plain] != 1)


def test_the_24_orders_are_equally_likely() -> None:
    """The order of the colour operations is a uniform permutation (chi-square)."""
    counts = Counter(map(tuple, sample(Augmentation()).order.flatten(0, 1).tolist()))
    assert all(sorted(order) == [0, 1, 2, 3] for order in counts)
    assert len(counts) == 24
    assert stats.chisquare(list(counts.values())).pvalue > ALPHA


def test_parameters_are_independent_of_each_other_and_between_views() -> None:
    """No two drawn numbers of an image are correlated, within a view or between its two."""
    drawn = sample(Augmentation(color_probability=1, blur_probability=1))
    columns = torch.stack([value.float() for value in tensors(drawn).values() if value.ndim == 2], 1)  # (2, fields, N)
    columns = columns[:, columns.std((0, 2)) > 0]
    correlation = np.corrcoef(columns.flatten(0, 1)) - np.eye(2 * columns.shape[1])
    by_view = correlation.reshape(2, columns.shape[1], 2, columns.shape[1])
    for view in range(2):
        by_view[view, :4, view, :4] = 0  # a crop's height and width share its area and limit its top and left
    assert np.abs(correlation).max() < 5 / np.sqrt(NUM_IMAGES)


def test_parameters_depend_on_seed_step_and_row_alone() -> None:
    """The same (seed, step) draws the same rows, for any number of images; another seed or step others."""
    sizes = torch.full((64,), 40)
    first = tensors(sample_parameters(Augmentation(), sizes, sizes, 32, seed=1, step=2))
    fewer = tensors(sample_parameters(Augmentation(), sizes[:9], sizes[:9], 32, seed=1, step=2))
    for name, values in first.items():
        assert torch.equal(values[:, :9], fewer[name]), name
    for seed, step in ((1, 3), (2, 2), (2, 1)):
        other = tensors(sample_parameters(Augmentation(), sizes, sizes, 32, seed=seed, step=step))
        assert not torch.equal(first["contrast"], other["contrast"])
