"""Multinomial logistic regression with an l2 penalty, by L-BFGS.

Legend: N images, D size of h, K classes, R leading directions.

    J(W, b) = 1/N sum_i cross_entropy(W h_i + b, y_i) + l2 / (2 N) |W|^2      W (K, D), b (K,)

which scikit-learn calls LogisticRegression(C=1 / l2): b is free, and l2 weighs against the sum over images, so that one
value suits a part of a training split and the whole.

Features are not standardised, as in the paper (B.8): it would change what |W|^2 penalises, and no accuracy was gained.
What it is good for elsewhere, conditioning, comes from a change of variables that leaves the minimum where it is:
L-BFGS sees U = W P^-1, where P^-2 = covariance(h) / K + l2 / N is the Hessian at W = 0 for classes of equal size. Of
the covariance, the R leading directions are exact and all others share their mean variance.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

MAX_DIRECTIONS = 128
BLOCK_ELEMENTS = 2**24  # of a block of logits: 64 MiB, however many images there are
HISTORY = 10
MIN_CHANGE = 1e-9  # of J or U: about what float32 features can still resolve


@dataclass(frozen=True)
class LinearHead:
    """A classifier on h."""

    weight: Tensor  # (K, D) float32
    bias: Tensor  # (K,) float32

    def logits(self, h: Tensor) -> Tensor:
        """(M, D) -> (M, K)."""
        return torch.addmm(self.bias, h, self.weight.T)


@dataclass(frozen=True)
class Spectrum:
    """The covariance of h, short: its leading directions, and one variance for all others."""

    directions: Tensor  # (D, R), orthonormal
    variances: Tensor  # (R,)
    rest: Tensor  # scalar

    @classmethod
    def of(cls, h: Tensor) -> Self:
        """The spectrum of h (N, D), which must be centred. Draws from torch's global generator."""
        N, D = h.shape
        R = min(MAX_DIRECTIONS, N, D)
        _, _, directions = torch.svd_lowrank(h, q=R)
        variances = (h @ directions).square().mean(dim=0)  # (R,)
        total = h.square().mean(dim=0).sum()
        return cls(directions, variances, ((total - variances.sum()) / max(1, D - R)).clamp_min(0))

    def preconditioner(self, num_classes: int, penalty: float) -> tuple[Callable[[Tensor], Tensor], ...]:
        """The maps U -> U P and W -> W P^-1 of (K, D); `penalty` is l2 / N."""
        leading = (self.variances / num_classes + penalty).rsqrt()  # (R,), of P
        rest = (self.rest / num_classes + penalty).rsqrt()

        def apply(matrix: Tensor, leading: Tensor, rest: Tensor) -> Tensor:
            return matrix * rest + (matrix @ self.directions * (leading - rest)) @ self.directions.T

        return lambda U: apply(U, leading, rest), lambda W: apply(W, 1 / leading, 1 / rest)


def loss_and_gradient(head: LinearHead, h: Tensor, y: Tensor, l2: float) -> tuple[Tensor, Tensor, Tensor]:
    """J, a float64 scalar, and its gradients by W (K, D) and b (K,), for h (N, D) and y (N,) int64.

    Logits are transposed, (K, n): with few classes and many features that makes the matrix products twice as fast.
    """
    N, penalty = len(h), l2 / len(h)
    loss = head.weight.double().square().sum() * penalty / 2
    by_weight = head.weight * penalty  # (K, D)
    by_bias = torch.zeros_like(head.bias)  # (K,)
    block = max(1, BLOCK_ELEMENTS // len(head.bias))
    for h_n, y_n in zip(torch.split(h, block), torch.split(y, block), strict=True):
        log_p = (head.weight @ h_n.T + head.bias[:, None]).log_softmax(dim=0)  # (K, n)
        loss -= log_p.gather(0, y_n[None]).sum(dtype=torch.float64) / N
        residual = log_p.exp_()
        residual.scatter_add_(0, y_n[None], residual.new_full((1, len(y_n)), -1.0))  # (K, n)
        by_weight += residual @ h_n / N
        by_bias += residual.sum(dim=1) / N
    return loss, by_weight, by_bias


def fit(
    h: Tensor,
    y: Tensor,
    l2: float,
    spectrum: Spectrum,
    start: LinearHead,
    *,
    tolerance: float,
    max_iterations: int,
) -> tuple[LinearHead, bool]:
    """The head that minimises J on h (N, D) and y (N,), from `start`; whether it is there.

    It is there when J's gradient in U is at most `tolerance` everywhere, or when J no longer changes.
    """
    to_weight, from_weight = spectrum.preconditioner(len(start.bias), l2 / len(h))
    U = from_weight(start.weight).requires_grad_()
    b = start.bias.clone().requires_grad_()

    @torch.no_grad()
    def closure() -> Tensor:
        loss, by_weight, b.grad = loss_and_gradient(LinearHead(to_weight(U), b), h, y, l2)
        U.grad = to_weight(by_weight)  # P is symmetric
        return loss

    optimizer = torch.optim.LBFGS(
        [U, b],
        max_iter=max_iterations,
        max_eval=math.ceil(2.5 * max_iterations),
        tolerance_grad=tolerance,
        tolerance_change=MIN_CHANGE,
        history_size=HISTORY,
        line_search_fn="strong_wolfe",
    )
    optimizer.step(closure)  # type: ignore[no-untyped-call]  # torch's stub
    converged = optimizer.state[U]["n_iter"] < max_iterations
    return LinearHead(to_weight(U.detach()), b.detach()), converged
