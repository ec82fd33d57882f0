"""LARS, the learning rate's scaling and its schedule against the authors' formulas in NumPy."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from models.config import Encoder, Optimizer, PretrainRecipe, Schedule
from models.simclr import SimCLR
from trainer.optim import LARS, build_optimizer, learning_rate, peak_learning_rate

Array = NDArray[np.float64]


def authors_update(  # the authors' own arguments
    w: Array, g: Array, v: Array, *, lr: float, weight_decay: float, adapt: bool
) -> tuple[Array, Array]:
    """lars_optimizer.py's apply_gradients with classic momentum: the new weight and buffer."""
    g = g + weight_decay * w
    w_norm, g_norm = np.linalg.norm(w), np.linalg.norm(g)
    trust = 0.001 * w_norm / g_norm if adapt and w_norm > 0 and g_norm > 0 else 1.0
    v = 0.9 * v + lr * trust * g
    return w - v, v


def lr_outside_update(w: Array, g: Array, v: Array, *, lr: float, weight_decay: float) -> tuple[Array, Array]:
    """The form of other libraries: the learning rate multiplies the buffer."""
    g = g + weight_decay * w
    v = 0.9 * v + 0.001 * np.linalg.norm(w) / np.linalg.norm(g) * g
    return w - lr * v, v


def run_lars(shape: tuple[int, ...], *, adapt: bool, weight_decay: float, steps: int = 50) -> tuple[Array, list[Array]]:
    """Train a tensor with given gradients under a changing rate; the start is deterministic."""
    rng = np.random.default_rng(0)
    w = torch.tensor(rng.normal(size=shape), requires_grad=True)
    gradients = [rng.normal(size=shape) for _ in range(steps)]
    optimizer = LARS([{"params": [w], "adapt": adapt}], lr=0.0, momentum=0.9, weight_decay=weight_decay)
    for step, g in enumerate(gradients):
        optimizer.param_groups[0]["lr"] = changing_rate(step)
        w.grad = torch.tensor(g)
        optimizer.step()
    return w.detach().numpy(), gradients


def changing_rate(step: int) -> float:
    return 2.0 * (step + 1) / 10 if step < 10 else 2.0 * math.cos(step / 40)


@pytest.mark.parametrize(("adapt", "weight_decay"), [(True, 1e-6), (True, 0.1), (True, 0.0), (False, 0.0)])
def test_lars_equals_the_authors_update(*, adapt: bool, weight_decay: float) -> None:
    """Fifty steps under a changing rate land where the authors' update lands."""
    trained, gradients = run_lars((4, 3), adapt=adapt, weight_decay=weight_decay)
    w, v = np.random.default_rng(0).normal(size=(4, 3)), np.zeros((4, 3))
    for step, g in enumerate(gradients):
        w, v = authors_update(w, g, v, lr=changing_rate(step), weight_decay=weight_decay, adapt=adapt)
    np.testing.assert_allclose(trained, w, rtol=1e-12, atol=1e-14)


def test_lars_differs_from_the_rate_outside_the_buffer() -> None:
    """Under a changing rate the form of other libraries lands elsewhere."""
    trained, gradients = run_lars((4, 3), adapt=True, weight_decay=1e-6)
    w, v = np.random.default_rng(0).normal(size=(4, 3)), np.zeros((4, 3))
    for step, g in enumerate(gradients):
        w, v = lr_outside_update(w, g, v, lr=changing_rate(step), weight_decay=1e-6)
    assert np.abs(trained - w).max() > 1e-4


def test_a_zero_weight_or_gradient_is_not_adapted() -> None:
    """Where a norm is 0 the trust ratio is 1: zeros can leave zero, and nothing becomes NaN."""
    zero_weight = torch.zeros(3, 2, dtype=torch.float64, requires_grad=True)
    zero_gradient = torch.ones(3, 2, dtype=torch.float64, requires_grad=True)
    zero_weight.grad = torch.ones_like(zero_weight)
    zero_gradient.grad = torch.zeros_like(zero_gradient)
    LARS([zero_weight, zero_gradient], lr=0.5, momentum=0.9, weight_decay=0.0).step()
    assert torch.equal(zero_weight.detach(), torch.full((3, 2), -0.5, dtype=torch.float64))
    assert torch.equal(zero_gradient.detach(), torch.ones(3, 2, dtype=torch.float64))


def test_batch_norm_and_biases_are_neither_decayed_nor_adapted() -> None:
    """Their update is plain momentum SGD, whatever the weight decay."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).double()
    optimizer = build_optimizer(model, Optimizer(name="lars", weight_decay=0.5))
    before = {name: w.detach().clone() for name, w in model.named_parameters()}
    for w in model.parameters():
        w.grad = torch.ones_like(w)
    for group in optimizer.param_groups:
        group["lr"] = 0.25
    optimizer.step()
    after = dict(model.named_parameters())
    for name in ("0.bias", "1.weight", "1.bias"):
        torch.testing.assert_close(after[name].detach(), before[name] - 0.25)
    kernel, _ = authors_update(
        before["0.weight"].numpy(), np.ones((3, 4)), np.zeros((3, 4)), lr=0.25, weight_decay=0.5, adapt=True
    )
    np.testing.assert_allclose(after["0.weight"].detach().numpy(), kernel, rtol=1e-12)


def vit() -> SimCLR:
    """A small ViT with a head; every trained parameter away from 0, so that decay shows."""
    torch.manual_seed(0)
    model = SimCLR(PretrainRecipe(encoder=Encoder(name="vit_small", width=0.25, patch_size=8)))
    for w in model.parameters():
        if w.requires_grad:
            nn.init.uniform_(w, 0.5, 1.5)
    return model


@pytest.mark.parametrize("name", ["lars", "sgd", "adamw"])
def test_of_a_vit_only_kernels_are_decayed(name: str) -> None:
    """Where all gradients are 0, kernels shrink; the class token, which is no vector either, norms and biases stay."""
    model = vit()
    optimizer = build_optimizer(model, Optimizer.model_validate({"name": name, "weight_decay": 0.5}))
    before = {name: w.detach().clone() for name, w in model.named_parameters()}
    for w in model.parameters():
        w.grad = torch.zeros_like(w)
    for group in optimizer.param_groups:
        group["lr"] = 0.25
    optimizer.step()
    for parameter, w in model.named_parameters():
        kernel = parameter.endswith(("qkv.weight", "output.weight", "mlp.0.weight", "mlp.2.weight")) or parameter in {
            "head.0.weight",
            "head.3.weight",
        }
        assert bool((w < before[parameter]).all()) == kernel, parameter
        assert torch.equal(w, before[parameter]) != kernel, parameter


def test_lars_adapts_kernels_alone() -> None:
    """A ViT's class token, norms and biases move by the rate times the gradient."""
    model = vit()
    optimizer = build_optimizer(model, Optimizer(name="lars", weight_decay=0.0))
    before = {name: w.detach().clone() for name, w in model.named_parameters()}
    for w in model.parameters():
        w.grad = torch.ones_like(w)
    for group in optimizer.param_groups:
        group["lr"] = 0.25
    optimizer.step()
    plain = {n for n, w in model.named_parameters() if torch.allclose(before[n] - w, torch.tensor(0.25))}
    trained = [(n, w) for n, w in model.named_parameters() if w.requires_grad]
    assert plain == {n for n, w in trained if w.ndim == 1} | {"encoder.class_token"}


@pytest.mark.parametrize("name", ["lars", "sgd", "adamw"])
def test_a_step_moves_all_but_what_is_frozen(name: str) -> None:
    """After a step of training, a ViT's patch projection and the last beta are bit-equal, and all else has moved."""
    model = vit()
    optimizer = build_optimizer(model, Optimizer.model_validate({"name": name, "weight_decay": 0.1}))
    before = {name: w.detach().clone() for name, w in model.named_parameters()}
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    _, z = model(torch.rand(8, 3, 32, 32))
    (z * torch.randn_like(z)).sum().backward()
    optimizer.step()
    kept = {name for name, w in model.named_parameters() if torch.equal(w, before[name])}
    assert kept == {"encoder.patch_projection.weight", "encoder.patch_projection.bias", "head.4.bias"}


def test_momentum_is_the_recipes() -> None:
    """Under a constant gradient the second step of momentum 0.7 is 1.7 times the first; AdamW has it as first beta."""
    for name in ("lars", "sgd"):
        model = nn.Sequential(nn.Linear(4, 3)).double()
        optimizer = build_optimizer(model, Optimizer(name=name, momentum=0.7, weight_decay=0))
        optimizer.param_groups[0]["lr"] = optimizer.param_groups[1]["lr"] = 0.25
        bias = [model[0].bias.detach().clone()]
        for _ in range(2):
            for w in model.parameters():
                w.grad = torch.ones_like(w)
            optimizer.step()
            bias.append(model[0].bias.detach().clone())
        torch.testing.assert_close(bias[1] - bias[0], torch.full((3,), -0.25, dtype=torch.float64))
        torch.testing.assert_close(bias[2] - bias[1], torch.full((3,), -0.25 * 1.7, dtype=torch.float64))
    adamw = build_optimizer(model, Optimizer(name="adamw", momentum=0.7))
    assert [group["betas"] for group in adamw.param_groups] == [(0.7, 0.999)] * 2


@pytest.mark.parametrize(
    ("scaling", "rate", "batch_size", "peak"),
    [("linear", 0.3, 4096, 4.8), ("linear", 0.3, 256, 0.3), ("sqrt", 0.075, 4096, 4.8), ("none", 0.1, 512, 0.1)],
)
def test_the_rate_scales_with_images_in_the_batch(scaling: str, rate: float, batch_size: int, peak: float) -> None:
    """0.3 B / 256 and 0.075 sqrt(B) are 4.8 at B = 4096 (B.1)."""
    config = Optimizer.model_validate({"scaling": scaling, "learning_rate": rate})
    assert peak_learning_rate(config, batch_size) == pytest.approx(peak)


def test_the_schedule_is_linear_then_half_a_cosine() -> None:
    """10 warm-up epochs of 100, 7 steps each: 0 at the start, the peak at step 70, half of it midway, 0 at the end."""
    schedule = Schedule(epochs=100, warmup_epochs=10)

    def rate(step: int) -> float:
        return learning_rate(step, peak=4.8, schedule=schedule, steps_per_epoch=7)

    assert rate(0) == 0
    assert [rate(step) for step in range(71)] == pytest.approx([4.8 * step / 70 for step in range(71)])
    progress = np.arange(631) / 630
    expected = 4.8 * 0.5 * (1 + np.cos(np.pi * progress))
    np.testing.assert_allclose([rate(70 + step) for step in range(631)], expected, atol=1e-12)
    assert rate(70 + 315) == pytest.approx(2.4)
    assert rate(700) == pytest.approx(0, abs=1e-12)


def test_no_warm_up_starts_at_the_peak() -> None:
    """With warmup_epochs 0 the first step has the peak rate."""
    assert learning_rate(0, peak=2.0, schedule=Schedule(epochs=2, warmup_epochs=0), steps_per_epoch=5) == 2.0
