"""NT-Logistic against Table 2 written as loops."""

import math
from functools import partial

import pytest
import torch
from torch import Tensor

from tests.trainer.losses.naive import assert_same, naive, nt_logistic_of, projections
from trainer.losses.nt_logistic import nt_logistic


def table_2(z: Tensor, temperature: float, *, normalize: bool, other_view: bool, semi_hard: bool) -> Tensor:
    of_anchor = partial(nt_logistic_of, temperature=temperature, semi_hard=semi_hard)
    return naive(z, of_anchor, normalize=normalize, other_view=other_view)


@pytest.mark.parametrize("semi_hard", [False, True])
@pytest.mark.parametrize("other_view", [False, True])
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("temperature", [0.05, 0.5, 100.0])
@pytest.mark.parametrize("n", [1, 4])
def test_equals_table_2(n: int, temperature: float, *, normalize: bool, other_view: bool, semi_hard: bool) -> None:
    """Loss and gradient equal those of Table 2 written pair by pair."""
    options = {"normalize": normalize, "other_view": other_view, "semi_hard": semi_hard}
    assert_same(
        lambda z: nt_logistic(z, temperature, **options),
        lambda z: table_2(z, temperature, **options),
        projections(n, 4),
    )


@pytest.mark.parametrize("semi_hard", [False, True])
@pytest.mark.parametrize("other_view", [False, True])
@pytest.mark.parametrize("normalize", [False, True])
def test_gradient_is_the_numerical_one(*, normalize: bool, other_view: bool, semi_hard: bool) -> None:
    """The gradient agrees with finite differences; the choice of a negative has none."""
    z = projections(3, 2, seed=1)
    options = {"normalize": normalize, "other_view": other_view, "semi_hard": semi_hard}
    assert torch.autograd.gradcheck(lambda z: nt_logistic(z, 0.5, **options), z)


def test_the_gradient_is_that_of_table_2() -> None:
    """Its closed form: sigmoid(-s_p / t) / t towards the positive, sigmoid(s_k / t) / t away from a negative."""
    u = torch.tensor([0.3, -0.8], dtype=torch.float64)
    positive, negative = torch.tensor([[0.5, 0.1], [-0.2, 0.9]], dtype=torch.float64)
    temperature = 0.7
    # x1 = (u, 0), x2 = (positive, negative): u meets each x2 twice, once as the anchor and once as the other view.
    z = torch.stack([u, torch.zeros_like(u), positive, negative]).requires_grad_()
    (gradient,) = torch.autograd.grad(nt_logistic(z, temperature, normalize=False, other_view=True), z)
    towards = torch.sigmoid(-u @ positive / temperature) / temperature * positive
    away = torch.sigmoid(u @ negative / temperature) / temperature * negative
    torch.testing.assert_close(gradient[0], 2 * (away - towards) / 4, rtol=1e-12, atol=1e-14)


def test_equal_projections() -> None:
    """If all projections are equal, each anchor pays -log sigmoid(1 / t) - log sigmoid(-1 / t), whatever N."""
    expected = math.log1p(math.exp(-2)) + math.log1p(math.exp(2))
    for n in (2, 7):
        assert nt_logistic(torch.ones(2 * n, 3), 0.5).item() == pytest.approx(expected, rel=1e-6)


def test_sharp_temperatures_do_not_overflow() -> None:
    """Dot products of hundreds cost what they are, not infinity, and have a gradient."""
    z = (5 * projections(4, 4)).detach().float().requires_grad_()
    loss = nt_logistic(z, 0.05, normalize=False)
    (gradient,) = torch.autograd.grad(loss, z)
    assert torch.isfinite(gradient).all()
    s = (z @ z.T / 0.05).detach().double()  # (8, 8)
    of_pairs = torch.nn.functional.softplus(s)
    positive = torch.tensor([(i + 4) % 8 for i in range(8)])
    own, opposite = of_pairs[range(8), range(8)], of_pairs[range(8), positive]
    expected = (opposite - s[range(8), positive] + (of_pairs.sum(1) - own - opposite) / 6).mean()
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=0)
