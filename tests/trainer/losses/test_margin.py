"""The margin loss against Table 2 written as loops."""

from functools import partial

import pytest
import torch
from torch import Tensor

from tests.trainer.losses.naive import assert_same, margin_of, naive, projections
from trainer.losses.margin import margin_triplet


def table_2(z: Tensor, margin: float, *, normalize: bool, other_view: bool, semi_hard: bool) -> Tensor:
    return naive(z, partial(margin_of, margin=margin, semi_hard=semi_hard), normalize=normalize, other_view=other_view)


@pytest.mark.parametrize("semi_hard", [False, True])
@pytest.mark.parametrize("other_view", [False, True])
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("margin", [0.0, 0.4, 1.6])
@pytest.mark.parametrize("n", [1, 4])
def test_equals_table_2(n: int, margin: float, *, normalize: bool, other_view: bool, semi_hard: bool) -> None:
    """Loss and gradient equal those of Table 2 written pair by pair."""
    options = {"normalize": normalize, "other_view": other_view, "semi_hard": semi_hard}
    assert_same(
        lambda z: margin_triplet(z, margin, **options), lambda z: table_2(z, margin, **options), projections(n, 4)
    )


@pytest.mark.parametrize("semi_hard", [False, True])
@pytest.mark.parametrize("other_view", [False, True])
@pytest.mark.parametrize("normalize", [False, True])
def test_gradient_is_the_numerical_one(*, normalize: bool, other_view: bool, semi_hard: bool) -> None:
    """The gradient agrees with finite differences; the choice of a negative has none."""
    z = projections(3, 2, seed=1)
    options = {"normalize": normalize, "other_view": other_view, "semi_hard": semi_hard}
    assert torch.autograd.gradcheck(lambda z: margin_triplet(z, 0.8, **options), z)


@pytest.mark.parametrize(("margin", "expected"), [(0.5, 0.0), (0.75, 0.0), (1.0, 0.25)])
def test_negatives_farther_than_the_margin_cost_nothing(margin: float, expected: float) -> None:
    """Positives at similarity 1, negatives at 1/4: what the margin exceeds 3/4 by."""
    x = torch.tensor([[1.0, 0.0], [0.25, 0.9375**0.5]], dtype=torch.float64)
    assert margin_triplet(torch.cat([x, x]), margin).item() == pytest.approx(expected, abs=1e-15)
