"""The recipe's loss: each choice of its fields, on any blocks."""

from functools import partial
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from models.config import Loss
from tests.trainer.losses.naive import margin_of, naive, nt_logistic_of, nt_xent_of, projections
from trainer.losses import contrastive_loss

CONFIGS = [
    Loss(name=name, normalize=normalize, negatives=negatives, semi_hard=semi_hard, temperature=0.3, margin=0.6)
    for name, normalize, negatives, semi_hard in product(
        ("nt_xent", "nt_logistic", "margin"), (True, False), ("both_views", "other_view"), (False, True)
    )
    if not (semi_hard and name == "nt_xent")
]
each_config = pytest.mark.parametrize(
    "config", CONFIGS, ids=lambda c: f"{c.name}-normalize={c.normalize}-{c.negatives}-semi_hard={c.semi_hard}"
)


def written_naively(z: Tensor, config: Loss) -> Tensor:
    of_anchor: dict[str, Any] = {
        "nt_xent": partial(nt_xent_of, temperature=config.temperature),
        "nt_logistic": partial(nt_logistic_of, temperature=config.temperature, semi_hard=config.semi_hard),
        "margin": partial(margin_of, margin=config.margin, semi_hard=config.semi_hard),
    }
    other_view = config.negatives == "other_view"
    return naive(z, of_anchor[config.name], normalize=config.normalize, other_view=other_view)


@each_config
def test_the_recipe_chooses_the_loss(config: Loss) -> None:
    """Name, normalisation, negatives, mining, temperature and margin each reach the loss."""
    z = projections(4, 3)
    torch.testing.assert_close(contrastive_loss(z, config), written_naively(z, config), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("block_rows", [3, 16])
@each_config
def test_the_block_size_changes_nothing(monkeypatch: pytest.MonkeyPatch, config: Loss, block_rows: int) -> None:
    """Blocks of any size, also ones that don't divide 2N, give the dense loss and gradient."""
    z = projections(16, 8, seed=2)
    dense = contrastive_loss(z, config)
    (dense_gradient,) = torch.autograd.grad(dense, z)
    monkeypatch.setattr("trainer.losses.similarities._rows_a_block", lambda num_columns: block_rows)
    blockwise = contrastive_loss(z, config)
    (gradient,) = torch.autograd.grad(blockwise, z)
    torch.testing.assert_close(blockwise, dense, rtol=1e-10, atol=0)
    torch.testing.assert_close(gradient, dense_gradient, rtol=1e-10, atol=1e-14)


@each_config
def test_the_incoming_gradient_scales_the_outgoing(config: Loss) -> None:
    """Three times the loss has three times the gradient."""
    z = projections(4, 6)
    (once,) = torch.autograd.grad(contrastive_loss(z, config), z)
    (thrice,) = torch.autograd.grad(3 * contrastive_loss(z, config), z)
    torch.testing.assert_close(thrice, 3 * once, rtol=1e-12, atol=1e-14)


@each_config
def test_length_counts_only_without_normalisation(config: Loss) -> None:
    """Projections of other lengths have the same cosines, and other dot products."""
    z = projections(4, 6)
    lengths = torch.linspace(0.5, 2, 8, dtype=torch.float64)[:, None]
    difference = (contrastive_loss(z * lengths, config) - contrastive_loss(z, config)).abs()
    assert difference < 1e-12 if config.normalize else difference > 1e-3


@each_config
def test_zero_projections_are_finite(config: Loss) -> None:
    """A projection of zeros, which has no direction, is neither NaN nor infinity in loss and gradient."""
    z = projections(4, 3).detach().float()
    z[[0, 5]] = 0
    for some_or_all in (z, torch.zeros_like(z)):
        some_or_all.requires_grad_()
        loss = contrastive_loss(some_or_all, config)
        (gradient,) = torch.autograd.grad(loss, some_or_all)
        assert torch.isfinite(loss)
        assert torch.isfinite(gradient).all()


@each_config
def test_float32_stays_float32(config: Loss) -> None:
    """The loss and its gradient are of z's type, and close to those of float64."""
    z = projections(8, 16)
    single = z.detach().float().requires_grad_()
    loss = contrastive_loss(single, config)
    (gradient,) = torch.autograd.grad(loss, single)
    assert loss.dtype == gradient.dtype == torch.float32
    torch.testing.assert_close(loss.double(), contrastive_loss(z, config), rtol=1e-5, atol=1e-6)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@each_config
def test_cuda_agrees_with_the_cpu(config: Loss, dtype: torch.dtype) -> None:
    """Loss and gradient of a GPU are those of the CPU, and the host doesn't wait for them."""
    z = projections(40, 16).detach()
    expected = contrastive_loss(z.requires_grad_(), config)
    (expected_gradient,) = torch.autograd.grad(expected, z)
    on_gpu = z.detach().to("cuda", dtype).requires_grad_()
    contrastive_loss(on_gpu, config)  # the first use of a kernel compiles it
    torch.cuda.set_sync_debug_mode("error")
    try:
        loss = contrastive_loss(on_gpu, config)
        (gradient,) = torch.autograd.grad(loss, on_gpu)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    tolerance = 1e-10 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(loss.cpu().double(), expected, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(gradient.cpu().double(), expected_gradient, rtol=10 * tolerance, atol=tolerance)
