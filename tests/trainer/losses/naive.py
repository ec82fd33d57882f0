"""The losses as the paper writes them, pair by pair; rows i and i + N are the two views of image i."""

from collections.abc import Callable

import torch
from torch import Tensor


def projections(n: int, d: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (0.5 * torch.randn(2 * n, d, dtype=torch.float64, generator=generator)).requires_grad_()


def similarity(z: Tensor, i: int, k: int, *, normalize: bool) -> Tensor:
    s = torch.dot(z[i], z[k])
    return s / (z[i].norm() * z[k].norm()) if normalize else s


def negatives_of(i: int, n: int, *, other_view: bool) -> list[int]:
    return [k for k in range(2 * n) if k % n != i % n and (not other_view or (i < n) != (k < n))]


def naive(
    z: Tensor, of_anchor: Callable[[Tensor, list[Tensor]], Tensor], *, normalize: bool, other_view: bool
) -> Tensor:
    """The mean over anchors of a loss of one positive's similarity and those of the negatives."""
    n = len(z) // 2
    losses = []
    for i in range(2 * n):
        positive = similarity(z, i, (i + n) % (2 * n), normalize=normalize)
        negatives = [similarity(z, i, k, normalize=normalize) for k in negatives_of(i, n, other_view=other_view)]
        losses.append(of_anchor(positive, negatives))
    return torch.stack(losses).sum() / (2 * n)


def nt_xent_of(positive: Tensor, negatives: list[Tensor], temperature: float) -> Tensor:
    """Equation 1."""
    others = torch.stack([torch.exp(s / temperature) for s in [positive, *negatives]])
    return -torch.log(torch.exp(positive / temperature) / others.sum())


def nt_logistic_of(positive: Tensor, negatives: list[Tensor], temperature: float, *, semi_hard: bool) -> Tensor:
    """Table 2: log sigmoid(u v+ / t) + log sigmoid(-u v- / t), here to be minimised."""
    chosen = semi_hard_of(positive, negatives) if semi_hard else negatives
    terms = [-torch.log(1 / (1 + torch.exp(s / temperature))) for s in chosen]
    return -torch.log(1 / (1 + torch.exp(-positive / temperature))) + mean(terms, positive)


def margin_of(positive: Tensor, negatives: list[Tensor], margin: float, *, semi_hard: bool) -> Tensor:
    """Table 2: -max(u v- - u v+ + m, 0), here to be minimised; semi-hard: also within the margin."""
    chosen = semi_hard_of(positive, negatives) if semi_hard else negatives
    if semi_hard:
        chosen = [s for s in chosen if s > positive - margin]
    return mean([s - positive + margin if s - positive + margin > 0 else 0 * s for s in chosen], positive)


def semi_hard_of(positive: Tensor, negatives: list[Tensor]) -> list[Tensor]:
    """Closest, but farther than the positive: none or one."""
    farther = [s for s in negatives if s < positive]
    return [max(farther, key=Tensor.item)] if farther else []


def mean(terms: list[Tensor], like: Tensor) -> Tensor:
    return torch.stack(terms).sum() / len(terms) if terms else 0 * like


def assert_same(loss: Callable[[Tensor], Tensor], oracle: Callable[[Tensor], Tensor], z: Tensor) -> None:
    """Loss and gradient are the oracle's, to the precision of float64."""
    value, expected = loss(z), oracle(z)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)
    (gradient,) = torch.autograd.grad(value, z)
    (expected_gradient,) = torch.autograd.grad(expected, z)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-10, atol=1e-12)
