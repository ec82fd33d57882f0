"""Projection heads against the authors' formula, layer by layer."""

import pytest
import torch
from torch import Tensor

from models.config import Head
from models.heads import build_head


def normalized(x: Tensor) -> Tensor:
    """Batch norm before gamma and beta, on the batch's own statistics."""
    return (x - x.mean(dim=0)) / (x.var(dim=0, unbiased=False) + 1e-5).sqrt()


def kernels(head: torch.nn.Module) -> list[Tensor]:
    return [w for w in head.parameters() if w.ndim == 2]


@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_is_the_authors_head(num_layers: int) -> None:
    """Linear without bias, batch norm, ReLU, again; the last layer has neither ReLU nor beta."""
    torch.manual_seed(0)
    head = build_head(Head(num_layers=num_layers, output_size=5), 7).double()
    h = torch.randn(6, 7, dtype=torch.float64)
    expected = h
    for i, kernel in enumerate(kernels(head)):
        expected = normalized(expected @ kernel.T)
        if i < num_layers - 1:
            expected = expected.clamp(min=0)
    assert len(kernels(head)) == num_layers
    torch.testing.assert_close(head(h), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_only_the_last_beta_is_fixed(num_layers: int) -> None:
    """Each layer trains a kernel, a gamma and a beta, but for the last beta, which stays 0."""
    head = build_head(Head(num_layers=num_layers, output_size=5), 7)
    assert sum(w.requires_grad for w in head.parameters()) == 3 * num_layers - 1
    fixed = [(name, w) for name, w in head.named_parameters() if not w.requires_grad]
    assert len(fixed) == 1
    name, beta = fixed[0]
    assert name == list(dict(head.named_parameters()))[-1]
    assert not beta.any()


@pytest.mark.parametrize(
    ("config", "sizes"),
    [
        (Head(num_layers=1, output_size=5), [(5, 7)]),
        (Head(num_layers=2, output_size=5), [(7, 7), (5, 7)]),
        (Head(num_layers=3, output_size=5), [(7, 7), (7, 7), (5, 7)]),
        (Head(num_layers=3, hidden_size=9, output_size=5), [(9, 7), (9, 9), (5, 9)]),
    ],
)
def test_hidden_layers_are_as_wide_as_h_unless_told(config: Head, sizes: list[tuple[int, int]]) -> None:
    """Hidden layers have h's size or `hidden_size`, z has `output_size`."""
    head = build_head(config, 7)
    assert [tuple(kernel.shape) for kernel in kernels(head)] == sizes
    assert head.size == 5


def test_without_layers_z_is_h() -> None:
    """The head of no layers is the identity of h's size, whatever output_size says."""
    head = build_head(Head(num_layers=0, output_size=5), 7)
    h = torch.randn(3, 7)
    assert torch.equal(head(h), h)
    assert head.size == 7


def test_kernels_start_at_the_authors_scale() -> None:
    """Kernels start normal with a standard deviation of 0.01."""
    torch.manual_seed(0)
    for kernel in kernels(build_head(Head(), 512)):
        assert kernel.std().item() == pytest.approx(0.01, rel=0.02)
        assert kernel.mean().item() == pytest.approx(0, abs=1e-4)
