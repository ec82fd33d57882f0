"""NT-Xent against equation 1 written as loops."""

import math

import pytest
import torch
from torch import Tensor

import trainer.loss
from trainer.loss import nt_xent


def naive_nt_xent(z: Tensor, temperature: float) -> Tensor:
    """Equation 1, pair by pair; rows i and i + N are the two views of image i."""
    n = len(z) // 2

    def s(i: int, k: int) -> Tensor:
        return torch.dot(z[i], z[k]) / (z[i].norm() * z[k].norm())

    def term(i: int, j: int) -> Tensor:
        others = torch.stack([torch.exp(s(i, k) / temperature) for k in range(2 * n) if k != i])
        return -torch.log(torch.exp(s(i, j) / temperature) / others.sum())

    return torch.stack([term(k, k + n) + term(k + n, k) for k in range(n)]).sum() / (2 * n)


def projections(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(2 * n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).requires_grad_()


@pytest.mark.parametrize("temperature", [0.05, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("n", [2, 3, 8])
def test_equals_equation_1(n: int, temperature: float) -> None:
    """Loss and gradient equal those of equation 1 written pair by pair."""
    z = projections(n, 5)
    (expected,) = torch.autograd.grad(naive_nt_xent(z, temperature), z)
    loss = nt_xent(z, temperature)
    (gradient,) = torch.autograd.grad(loss, z)
    torch.testing.assert_close(loss, naive_nt_xent(z, temperature), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-12)


def test_gradient_is_the_numerical_one() -> None:
    """The hand-written backward pass agrees with finite differences."""
    z = projections(4, 3, seed=1)
    assert torch.autograd.gradcheck(lambda z: nt_xent(z, 0.5), z)


@pytest.mark.parametrize("block_rows", [1, 3, 7, 16, 64])
def test_the_block_size_changes_nothing(monkeypatch: pytest.MonkeyPatch, block_rows: int) -> None:
    """Blocks of any size, also ones that don't divide 2N, give the dense loss and gradient."""
    z = projections(16, 8, seed=2)
    dense = nt_xent(z, 0.1)
    (dense_gradient,) = torch.autograd.grad(dense, z)
    monkeypatch.setattr(trainer.loss, "BLOCK_ROWS", block_rows)
    blockwise = nt_xent(z, 0.1)
    (gradient,) = torch.autograd.grad(blockwise, z)
    torch.testing.assert_close(blockwise, dense, rtol=1e-12, atol=0)
    torch.testing.assert_close(gradient, dense_gradient, rtol=1e-10, atol=1e-14)


def test_equal_projections_cost_log_2n_minus_1() -> None:
    """If all projections are equal, each view is as likely as any other to be the positive."""
    z = torch.ones(10, 4, dtype=torch.float64)
    assert nt_xent(z, 0.5).item() == pytest.approx(math.log(9))


def test_the_length_of_projections_does_not_matter() -> None:
    """Only directions count: scaling any projection leaves the loss as it is."""
    z = projections(4, 6)
    lengths = torch.linspace(0.1, 10, 8, dtype=torch.float64)[:, None]
    torch.testing.assert_close(nt_xent(z * lengths, 0.1), nt_xent(z, 0.1), rtol=1e-12, atol=0)


def test_the_incoming_gradient_scales_the_outgoing() -> None:
    """Three times the loss has three times the gradient."""
    z = projections(4, 6)
    (once,) = torch.autograd.grad(nt_xent(z, 0.1), z)
    (thrice,) = torch.autograd.grad(3 * nt_xent(z, 0.1), z)
    torch.testing.assert_close(thrice, 3 * once)


def test_sharp_temperatures_do_not_overflow() -> None:
    """Similarities of 1 / 0.005 = 200 would overflow exp in float32; their log-sum-exp doesn't."""
    z = projections(8, 4).detach().float().requires_grad_()
    loss = nt_xent(z, 0.005)
    (gradient,) = torch.autograd.grad(loss, z)
    assert torch.isfinite(loss)
    assert torch.isfinite(gradient).all()
    torch.testing.assert_close(loss.double(), naive_nt_xent(z.double(), 0.005), rtol=1e-5, atol=1e-5)
