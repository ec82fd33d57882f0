from collections import Counter
from typing import Any, get_args

import numpy as np
import pytest
import torch
from scipy import stats

from models.config import Augmentation, Operation
from tests.trainer.augment.drawn import draw, pick, tensors
from trainer.augment import OPERATIONS, ViewParameters, sample_parameters
from trainer.augment.blur import Blur
from trainer.augment.color import ColorJitter
from trainer.augment.crop import Crop
from trainer.augment.cutout import Cutout
from trainer.augment.flip import Flip
from trainer.augment.grayscale import Grayscale
from trainer.augment.noise import Noise
from trainer.augment.rotation import Rotation
from trainer.augment.sobel import Sobel

NUM_IMAGES = 4000
ALPHA = 1e-3  # seeds are fixed: a failure is a changed distribution
ALL: tuple[Operation, ...] = get_args(Operation)


def sample(config: Augmentation, *, num_images: int = NUM_IMAGES, seed: int = 11, step: int = 12) -> ViewParameters:
    """Parameters of images of one size."""
    heights, widths = torch.full((num_images,), 60), torch.full((num_images,), 100)
    return sample_parameters(config, heights, widths, 32, seed=seed, step=step)


def test_every_operation_of_the_recipe_has_its_class() -> None:
    """The recipe's names are those of Fig. 4's table, in its order."""
    assert tuple(OPERATIONS) == ALL


@pytest.mark.parametrize("strength", [0.5, 1.0, 2.0])
def test_colour_factors_are_uniform(strength: float) -> None:
    """Factors are U[max(0, 1 - 0.8 s), 1 + 0.8 s] and hue is U[-0.2 s, 0.2 s] (Kolmogorov-Smirnov)."""
    drawn = draw(ColorJitter, "color_jitter", NUM_IMAGES, color_strength=strength, color_probability=1)
    low, high = max(0, 1 - 0.8 * strength), 1 + 0.8 * strength
    for factor in (drawn.brightness, drawn.contrast, drawn.saturation):
        assert stats.kstest(factor.flatten(), stats.uniform(low, high - low).cdf).pvalue > ALPHA
    hue = stats.uniform(-0.2 * strength, 0.4 * strength)
    assert stats.kstest(drawn.hue_shift.flatten(), hue.cdf).pvalue > ALPHA
    assert not drawn.brightness_offset.any()


def test_additive_brightness_is_uniform_around_zero() -> None:
    """`brightness: additive` adds U[-0.8 s, 0.8 s] and leaves the factor at 1."""
    config: dict[str, Any] = {"color_strength": 0.5, "color_probability": 1, "brightness": "additive"}
    drawn = draw(ColorJitter, "color_jitter", NUM_IMAGES, **config)
    assert stats.kstest(drawn.brightness_offset.flatten(), stats.uniform(-0.4, 0.8).cdf).pvalue > ALPHA
    assert torch.all(drawn.brightness == 1)


def test_colour_parameters_stay_neutral_without_jitter() -> None:
    """Where a view isn't jittered all its factors are 1 and its shifts 0."""
    drawn = draw(ColorJitter, "color_jitter", NUM_IMAGES, color_probability=0.8)
    plain = drawn.hue_shift == 0
    assert torch.all(torch.stack((drawn.brightness, drawn.contrast, drawn.saturation))[:, plain] == 1)
    assert torch.all(torch.stack((drawn.brightness, drawn.contrast, drawn.saturation))[:, ~plain] != 1)


def test_the_24_orders_are_equally_likely() -> None:
    """The order of the colour operations is a uniform permutation (chi-square)."""
    drawn = draw(ColorJitter, "color_jitter", NUM_IMAGES)
    counts = Counter(map(tuple, drawn.order.flatten(0, 1).tolist()))
    assert all(sorted(order) == [0, 1, 2, 3] for order in counts)
    assert len(counts) == 24
    assert stats.chisquare(list(counts.values())).pvalue > ALPHA


def test_sigmas_are_uniform() -> None:
    """The blur's sigma is U[0.1, 2], the noise's U[0.05, 0.2] as asked, where a view has them."""
    blur = draw(Blur, "blur", NUM_IMAGES).sigma
    noise = draw(Noise, "noise", NUM_IMAGES, noise_sigma=(0.05, 0.2)).sigma
    assert stats.kstest(blur[blur > 0], stats.uniform(0.1, 1.9).cdf).pvalue > ALPHA
    assert stats.kstest(noise[noise > 0], stats.uniform(0.05, 0.15).cdf).pvalue > ALPHA


def test_a_cutouts_centre_is_a_uniform_pixel() -> None:
    """Centres are uniform over the view's pixels, borders included, and the side is the recipe's share (chi-square)."""
    drawn = draw(Cutout, "cutout", NUM_IMAGES, size=31, cutout_side=0.3)
    assert torch.all(drawn.side == 9)  # 0.3 * 31, rounded
    for start in (drawn.top, drawn.left):
        counts = torch.bincount(start.flatten() + 9 // 2, minlength=31)
        assert len(counts) == 31
        assert stats.chisquare(counts).pvalue > ALPHA


def test_three_angles_are_equally_likely() -> None:
    """A rotated view turns by 90, 180 or 270 degrees, as often by each (chi-square)."""
    counts = torch.bincount(draw(Rotation, "rotation", NUM_IMAGES).quarter_turns.flatten(), minlength=4)
    assert len(counts) == 4
    assert stats.chisquare(counts[1:]).pvalue > ALPHA


def test_noise_keys_fill_two_words() -> None:
    """Keys are uniform over 32 bits (Kolmogorov-Smirnov), and all different."""
    keys = draw(Noise, "noise", NUM_IMAGES).key.flatten(0, 1).double()
    for word in keys.unbind(1):
        assert stats.kstest(word, stats.uniform(0, 2**32).cdf).pvalue > ALPHA
    assert len(keys.unique(dim=0)) == 2 * NUM_IMAGES


def test_coins_fall_with_their_probabilities() -> None:
    """Every operation happens with the recipe's probability (binomial test)."""
    drawn = sample(Augmentation(operations=("blur", *(name for name in ALL if name != "blur"))))
    coins = {
        "flip": (pick(drawn, Flip).active, 0.5),
        "color_jitter": (pick(drawn, ColorJitter).hue_shift != 0, 0.8),
        "grayscale": (pick(drawn, Grayscale).active, 0.2),
        "blur": (pick(drawn, Blur).sigma > 0, 0.5),
        "rotation": (pick(drawn, Rotation).quarter_turns > 0, 0.75),
        "noise": (pick(drawn, Noise).sigma > 0, 0.5),
        "sobel": (pick(drawn, Sobel).active, 0.5),
        "cutout": (draw(Cutout, "cutout", NUM_IMAGES, cutout_probability=0.3).side > 0, 0.3),
    }
    for name, (coin, probability) in coins.items():
        assert stats.binomtest(int(coin.sum()), coin.numel(), probability).pvalue > ALPHA, name


def test_parameters_are_independent_of_each_other_and_between_views() -> None:
    """No two drawn numbers of an image are correlated, within a view or between its two."""
    always = {f"{name}_probability": 1.0 for name in ("color", "blur", "noise")}
    drawn = tensors(sample(Augmentation(operations=ALL, cutout_probability=0.5, **always)))
    by_words = [values.unbind(-1) if values.ndim == 3 else (values,) for values in drawn.values()]
    columns = torch.stack([values.double() for words in by_words for values in words], 1)  # (2, fields, N)
    names = [name for name, words in zip(drawn, by_words, strict=True) for _ in words]
    varied = columns.std((0, 2)) > 0
    names, columns = [name for name, kept in zip(names, varied, strict=True) if kept], columns[:, varied]
    correlation = np.corrcoef(columns.flatten(0, 1)) - np.eye(2 * len(names))
    by_view = correlation.reshape(2, len(names), 2, len(names))
    orders = [i for i, name in enumerate(names) if name == "ColorJitter.order"]
    for view in range(2):
        by_view[view, :4, view, :4] = 0  # a crop's height and width share its area and limit its top and left
        by_view[view, orders[0] : orders[-1] + 1, view, orders[0] : orders[-1] + 1] = 0  # a permutation
    assert np.abs(correlation).max() < 5 / np.sqrt(NUM_IMAGES)


@pytest.mark.parametrize("branches", ["both", "one"])
def test_parameters_depend_on_seed_step_and_row_alone(branches: str) -> None:
    """The same (seed, step) draws the same rows, for any number of images; another seed or step others."""
    config = Augmentation(operations=ALL, branches=branches)  # type: ignore[arg-type]
    first = tensors(sample(config, num_images=64, seed=1, step=2))
    fewer = tensors(sample(config, num_images=9, seed=1, step=2))
    for name, values in first.items():
        assert torch.equal(values[:, :9], fewer[name]), name
    for seed, step in ((1, 3), (2, 2), (2, 1)):
        other = tensors(sample(config, num_images=64, seed=seed, step=step))
        same = {name for name, values in first.items() if values.any() and torch.equal(values, other[name])}
        assert same <= {"Cutout.side"}  # every view has its square


@pytest.mark.parametrize("name", ALL)
def test_an_operation_draws_the_same_in_every_composition(name: Operation) -> None:
    """A view's numbers of one operation don't depend on which others are in the recipe, nor on its place."""
    others = tuple(other for other in reversed(ALL) if other != name)
    alone = sample(Augmentation(operations=("sobel" if name != "sobel" else "noise", name)), num_images=9)
    last = sample(Augmentation(operations=(*others, name)), num_images=9)
    kind = OPERATIONS[name]
    for field, values in vars(pick(alone, kind)).items():
        assert torch.equal(values, getattr(pick(last, kind), field)), field


def test_the_folded_flip_is_the_operations() -> None:
    """A flip right after the first crop is drawn as a flip elsewhere is, and is no operation of its own."""
    folded = sample(Augmentation(operations=("crop", "flip")), num_images=50)
    assert folded.operations == ()
    assert torch.equal(folded.start.flip, draw(Flip, "flip", 50).active)
    apart = sample(Augmentation(operations=("crop", "noise", "flip")), num_images=50)
    assert not apart.start.flip.any()
    assert torch.equal(folded.start.top, apart.start.top)


def test_one_branch_draws_the_first_views_numbers() -> None:
    """Changing one branch draws for it what changing both draws for the first view."""
    order = tuple(reversed(ALL))
    both, one = (sample(Augmentation(operations=order, branches=b), num_images=9) for b in ("both", "one"))
    assert (both.num_changed, one.num_changed) == (2, 1)
    for two_branches, branch in zip(both.operations, one.operations, strict=True):
        for name, values in vars(branch).items():
            assert torch.equal(values, getattr(two_branches, name)[:1]), name


def test_the_shared_crop_is_drawn_apart_from_the_operation() -> None:
    """In Fig. 5's protocol a crop of the first view says nothing about the crop that both views start from."""
    drawn = sample(Augmentation(operations=("crop",), branches="one"))
    crop = pick(drawn, Crop)
    for shared, own in ((drawn.start.height, crop.height), (drawn.start.top, crop.top), (drawn.start.left, crop.left)):
        assert abs(np.corrcoef(shared[0], own[0])[0, 1]) < 4 / np.sqrt(NUM_IMAGES)


def test_what_cannot_happen_is_left_out() -> None:
    """An operation of probability 0 is no part of the views, as if it weren't listed."""
    fields = ("flip", "color", "grayscale", "blur", "cutout", "rotation", "noise", "sobel")
    never = {f"{field}_probability": 0 for field in fields}
    assert sample(Augmentation(operations=ALL, **never), num_images=2).operations == ()
    assert not sample(Augmentation(operations=ALL, **never), num_images=50).start.flip.any()
