"""Effective rank, alignment and uniformity in closed form and as loops."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from trainer.probes.geometry import alignment, effective_rank, uniformity


def with_spectrum(values: list[float], *, num_images: int, size: int) -> Tensor:
    """Centred features (num_images, size) of these singular values, around a mean of 100."""
    rng = np.random.default_rng(0)
    ones = np.ones((num_images, 1))
    left = np.linalg.qr(np.hstack([ones, rng.normal(size=(num_images, len(values)))]))[0][:, 1:]  # orthogonal to 1
    right = np.linalg.qr(rng.normal(size=(size, len(values))))[0]
    return torch.from_numpy(left * values @ right.T + 100).float()


@pytest.mark.parametrize(("num_images", "size"), [(60, 12), (12, 60)])
@pytest.mark.parametrize("number", [1, 5])
def test_equal_singular_values_are_counted(number: int, num_images: int, size: int) -> None:
    """The effective rank of k equal singular values is k, wherever the mean lies, with more images or more values."""
    h = with_spectrum([30.0] * number, num_images=num_images, size=size)
    assert effective_rank(h) == pytest.approx(number, rel=1e-3)


def test_the_effective_rank_is_roy_and_vetterlis() -> None:
    """exp(entropy) of the singular values over their sum: 8, 4, 2, 1, 1 have shares 1/2 ... 1/16 and 15/8 bits."""
    h = with_spectrum([8.0, 4.0, 2.0, 1.0, 1.0], num_images=50, size=9)
    assert effective_rank(h) == pytest.approx(2 ** (15 / 8), rel=1e-3)
    assert effective_rank(7 * h) == pytest.approx(effective_rank(h), rel=1e-4)


def test_noise_fills_nearly_all_directions() -> None:
    """Of random features it is that of NumPy's singular values, a little less than their number."""
    h = torch.randn(200, 20, generator=torch.Generator().manual_seed(0))
    values = np.linalg.svd(h.double().numpy() - h.double().numpy().mean(axis=0), compute_uv=False)
    shares = values / values.sum()
    assert effective_rank(h) == pytest.approx(math.exp(-(shares * np.log(shares)).sum()), rel=1e-9)
    assert 19 < effective_rank(h) < 20


@pytest.mark.parametrize("value", [0.0, 0.1])
def test_equal_images_fill_no_direction(value: float) -> None:
    """A layer that gives every image the same has an effective rank of 0, not that of rounding errors."""
    assert effective_rank(torch.full((30, 7), value) * torch.rand(7)) == 0


def test_alignment_is_the_squared_distance_on_the_sphere() -> None:
    """Vectors of any length at an angle a have 2 - 2 cos a; the result is the mean over images."""
    angles = torch.tensor([0.0, 0.5, math.pi])
    h1 = torch.tensor([[3.0, 0.0]]).repeat(3, 1)
    h2 = torch.stack([angles.cos(), angles.sin()], dim=1) * torch.tensor([[1.0], [5.0], [0.2]])
    assert alignment(h1, h2) == pytest.approx(float((2 - 2 * angles.cos()).mean()), abs=1e-6)


def test_uniformity_in_closed_form() -> None:
    """0 where all are equal, -8 for two opposite vectors, -4 for orthogonal ones of any length."""
    assert uniformity(torch.tensor([[2.0, 1.0]]).repeat(5, 1)) == pytest.approx(0, abs=1e-6)
    assert uniformity(torch.tensor([[1.0, 0.0], [-3.0, 0.0]])) == pytest.approx(-8, abs=1e-5)
    assert uniformity(torch.diag(torch.arange(1.0, 7.0))) == pytest.approx(-4, abs=1e-5)


def test_uniformity_is_over_pairs_of_different_images() -> None:
    """The definition as a loop over pairs."""
    h = torch.randn(9, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    unit = h / h.norm(dim=1, keepdim=True)
    terms = [math.exp(-2 * float((unit[i] - unit[j]).square().sum())) for i in range(9) for j in range(9) if i != j]
    assert uniformity(h) == pytest.approx(math.log(sum(terms) / len(terms)), rel=1e-9)
