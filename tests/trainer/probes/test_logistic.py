"""Logistic regression against autograd, the dense Hessian and scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn.functional import cross_entropy

import trainer.probes.logistic
from trainer.probes.logistic import LinearHead, Spectrum, fit, loss_and_gradient

N, D, K = 300, 12, 4


def features(dtype: torch.dtype = torch.float64, *, seed: int = 0, orders: float = 2.0) -> tuple[Tensor, Tensor]:
    """Correlated, centred features whose scales span `orders` of magnitude, and classes that they half explain."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(D, D, dtype=torch.float64, generator=generator)
    scales = torch.logspace(-orders, 0, D, dtype=torch.float64)
    clean = torch.randn(N, D, dtype=torch.float64, generator=generator)
    noise = torch.distributions.Gumbel(torch.tensor(0.0), torch.tensor(1.0)).icdf(
        torch.rand(N, K, generator=generator).clamp(1e-6, 1 - 1e-6)
    )
    y = (2 * clean[:, :K] + noise).argmax(dim=1)
    h = (clean * scales) @ torch.linalg.qr(mixing).Q
    return (h - h.mean(dim=0)).to(dtype), y


def zero_head(dtype: torch.dtype = torch.float64) -> LinearHead:
    return LinearHead(torch.zeros(K, D, dtype=dtype), torch.zeros(K, dtype=dtype))


@pytest.mark.parametrize("block_elements", [1, 100, 2**24])
def test_gradient_is_autograds(monkeypatch: pytest.MonkeyPatch, block_elements: int) -> None:
    """J and its gradients are those of the equation under autograd, in blocks of any size."""
    monkeypatch.setattr(trainer.probes.logistic, "BLOCK_ELEMENTS", block_elements)
    h, y = features()
    generator = torch.Generator().manual_seed(1)
    W = torch.randn(K, D, dtype=torch.float64, generator=generator).requires_grad_()
    b = torch.randn(K, dtype=torch.float64, generator=generator).requires_grad_()
    expected = cross_entropy(h @ W.T + b, y) + 3.0 / (2 * N) * W.square().sum()
    by_weight, by_bias = torch.autograd.grad(expected, (W, b))
    found = loss_and_gradient(LinearHead(W.detach(), b.detach()), h, y, 3.0)
    for value, other in zip(found, (expected.detach(), by_weight, by_bias), strict=True):
        torch.testing.assert_close(value, other, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("max_directions", [3, 128])
@pytest.mark.parametrize("l2", [1e-3, 1.0, 100.0])
def test_the_fit_equals_scikit_learns(monkeypatch: pytest.MonkeyPatch, l2: float, max_directions: int) -> None:
    """Coefficients are LogisticRegression(C=1 / l2)'s, with all directions of the covariance or few."""
    monkeypatch.setattr(trainer.probes.logistic, "MAX_DIRECTIONS", max_directions)
    monkeypatch.setattr(trainer.probes.logistic, "MIN_CHANGE", 1e-16)  # float64 resolves more than float32 features
    torch.manual_seed(0)
    h, y = features()
    head, converged = fit(h, y, l2, Spectrum.of(h), zero_head(), tolerance=1e-9, max_iterations=5000)
    sklearn = LogisticRegression(C=1 / l2, tol=1e-10, max_iter=100_000).fit(h.numpy(), y.numpy())
    assert converged
    scale = np.abs(sklearn.coef_).max()
    np.testing.assert_allclose(head.weight, sklearn.coef_, atol=2e-4 * scale)
    np.testing.assert_allclose(head.bias - head.bias.mean(), sklearn.intercept_ - sklearn.intercept_.mean(), atol=1e-3)


def test_float32_gives_scikit_learns_probabilities() -> None:
    """In float32, as probes run, probabilities agree with scikit-learn's float64 to 1e-3."""
    torch.manual_seed(0)
    h, y = features(torch.float32)
    head, _ = fit(h, y, 1e-2, Spectrum.of(h), zero_head(torch.float32), tolerance=1e-6, max_iterations=500)
    sklearn = LogisticRegression(C=1e2, tol=1e-10, max_iter=100_000).fit(h.double().numpy(), y.numpy())
    probabilities = head.logits(h).softmax(dim=1)
    np.testing.assert_allclose(probabilities, sklearn.predict_proba(h.double().numpy()), atol=1e-3)


def test_the_preconditioner_is_the_hessians_inverse_root() -> None:
    """With all directions known, P^-2 is covariance / K + l2 / N, and the two maps undo each other."""
    torch.manual_seed(0)
    h, _ = features()
    to_weight, from_weight = Spectrum.of(h).preconditioner(K, 0.01)
    hessian = h.T @ h / N / K + 0.01 * torch.eye(D, dtype=torch.float64)
    identity = torch.eye(D, dtype=torch.float64)
    torch.testing.assert_close(from_weight(from_weight(identity)), hessian)
    torch.testing.assert_close(to_weight(from_weight(identity)), identity)


def test_badly_scaled_features_cost_few_iterations() -> None:
    """Features whose scales span four orders of magnitude are fitted in 60 iterations, which plain L-BFGS is not."""
    torch.manual_seed(0)
    h, y = features(orders=4.0)
    spectrum = Spectrum.of(h)
    flat = Spectrum(spectrum.directions, torch.ones_like(spectrum.variances), torch.tensor(1.0, dtype=torch.float64))
    _, converged = fit(h, y, 1e-6, spectrum, zero_head(), tolerance=1e-6, max_iterations=60)
    _, plain_converged = fit(h, y, 1e-6, flat, zero_head(), tolerance=1e-6, max_iterations=60)
    assert converged
    assert not plain_converged


def test_constant_features_leave_the_classes_frequencies() -> None:
    """An encoder that gives every image the same h teaches nothing but how frequent each class is."""
    torch.manual_seed(0)
    _, y = features()
    h = torch.zeros(N, D, dtype=torch.float64)
    head, converged = fit(h, y, 1e-6, Spectrum.of(h), zero_head(), tolerance=1e-9, max_iterations=100)
    assert converged
    frequencies = torch.bincount(y, minlength=K) / N
    torch.testing.assert_close(head.bias.softmax(dim=0), frequencies.double(), rtol=1e-4, atol=0)
