"""NT-Xent against equation 1 written as loops."""

import math
from functools import partial

import pytest
import torch
from torch import Tensor

from tests.trainer.losses.naive import assert_same, naive, nt_xent_of, projections
from trainer.losses import nt_xent_triton
from trainer.losses.nt_xent import log_sum_exp, nt_xent, row_functions, weighted_sums


def equation_1(z: Tensor, temperature: float, *, normalize: bool = True, other_view: bool = False) -> Tensor:
    return naive(z, partial(nt_xent_of, temperature=temperature), normalize=normalize, other_view=other_view)


@pytest.mark.parametrize("other_view", [False, True])
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("temperature", [0.05, 0.5, 10.0, 100.0])
@pytest.mark.parametrize("n", [1, 4])
def test_equals_equation_1(n: int, temperature: float, *, normalize: bool, other_view: bool) -> None:
    """Loss and gradient equal those of equation 1 written pair by pair."""
    options = {"normalize": normalize, "other_view": other_view}
    assert_same(
        lambda z: nt_xent(z, temperature, **options), lambda z: equation_1(z, temperature, **options), projections(n, 4)
    )


@pytest.mark.parametrize("other_view", [False, True])
@pytest.mark.parametrize("normalize", [False, True])
def test_gradient_is_the_numerical_one(*, normalize: bool, other_view: bool) -> None:
    """The hand-written backward pass agrees with finite differences."""
    z = projections(3, 2, seed=1)
    assert torch.autograd.gradcheck(lambda z: nt_xent(z, 0.5, normalize=normalize, other_view=other_view), z)


@pytest.mark.parametrize("other_view", [False, True])
@pytest.mark.parametrize(("start", "stop"), [(0, 4), (3, 9), (5, 6), (6, 12), (8, 12)])
def test_a_range_of_rows_is_that_part_of_all_rows(start: int, stop: int, *, other_view: bool) -> None:
    """The rows of the forward and the backward pass can be shared out: each range gives its own part."""
    z = projections(6, 4).detach()
    lse = log_sum_exp(z, 0, 12, 0.5, other_view)
    torch.testing.assert_close(log_sum_exp(z, start, stop, 0.5, other_view), lse[start:stop], rtol=1e-12, atol=0)
    sums = weighted_sums(z, lse, 0, 12, 0.5, other_view)
    part = weighted_sums(z, lse, start, stop, 0.5, other_view)
    torch.testing.assert_close(part, sums[start:stop], rtol=1e-12, atol=0)


def test_the_cpu_takes_the_functions_in_pytorch() -> None:
    """The Triton kernels are for CUDA alone."""
    assert row_functions(projections(2, 4)) == (log_sum_exp, weighted_sums)


def test_the_kernels_take_what_they_support(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the Triton kernels can take z, they make the loss and its gradient."""
    monkeypatch.setattr(nt_xent_triton, "supports", lambda z: True)
    assert row_functions(projections(2, 4)) == (nt_xent_triton.log_sum_exp, nt_xent_triton.weighted_sums)


@pytest.mark.parametrize(("other_view", "num_others"), [(False, 9), (True, 5)])
def test_equal_projections_cost_the_log_of_their_number(num_others: int, *, other_view: bool) -> None:
    """If all projections are equal, each view is as likely as any other to be the positive: log(2N - 1), or log N."""
    z = torch.ones(10, 4, dtype=torch.float64)
    assert nt_xent(z, 0.5, other_view=other_view).item() == pytest.approx(math.log(num_others), rel=1e-14)


def test_the_length_of_projections_does_not_matter() -> None:
    """Only directions count: scaling any projection leaves the loss as it is."""
    z = projections(4, 6)
    lengths = torch.linspace(0.1, 10, 8, dtype=torch.float64)[:, None]
    torch.testing.assert_close(nt_xent(z * lengths, 0.1), nt_xent(z, 0.1), rtol=1e-12, atol=0)


def test_without_normalisation_length_is_temperature() -> None:
    """Projections twice as long are dot products four times as large, as at a quarter of the temperature."""
    z = projections(4, 6)
    longer, sharper = nt_xent(2 * z, 1.0, normalize=False), nt_xent(z, 0.25, normalize=False)
    torch.testing.assert_close(longer, sharper, rtol=1e-12, atol=0)
    assert abs(longer - nt_xent(z, 1.0, normalize=False)) > 0.1


def test_the_incoming_gradient_scales_the_outgoing() -> None:
    """Three times the loss has three times the gradient."""
    z = projections(4, 6)
    (once,) = torch.autograd.grad(nt_xent(z, 0.1), z)
    (thrice,) = torch.autograd.grad(3 * nt_xent(z, 0.1), z)
    torch.testing.assert_close(thrice, 3 * once, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("normalize", "temperature"), [(True, 0.005), (False, 0.01)])
def test_sharp_temperatures_do_not_overflow(temperature: float, *, normalize: bool) -> None:
    """Similarities of 200 and more would overflow exp in float32; their log-sum-exp doesn't."""
    z = projections(8, 4).detach().float().requires_grad_()
    loss = nt_xent(z, temperature, normalize=normalize)
    (gradient,) = torch.autograd.grad(loss, z)
    assert torch.isfinite(loss)
    assert torch.isfinite(gradient).all()
    expected = equation_1(z.double(), temperature, normalize=normalize)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-5)
