"""The schedule and the optimizer of training with labels."""

import math

import pytest
import torch

from trainer.supervised import Plan, nesterov


def test_the_rate_is_a_cosine_of_the_scaled_peak() -> None:
    """0.1 for 256 images is 0.2 for 512 (B.6); no warm-up, and 0 after the last step."""
    plan = Plan.of(2_000, epochs=4, batch_size=512, rate=0.1)
    assert (plan.steps_per_epoch, plan.steps) == (3, 12)
    assert plan.rate(0) == pytest.approx(0.2)
    for step in range(12):
        assert plan.rate(step) == pytest.approx(0.1 * (1 + math.cos(math.pi * step / 12)))
    assert plan.rate(12) == pytest.approx(0, abs=1e-12)


def test_a_batch_has_at_most_all_images() -> None:
    """The paper's 4096 on 100 images is a batch of 100, and the rate goes with it."""
    plan = Plan.of(100, epochs=2, batch_size=4096, rate=0.1)
    assert (plan.batch_size, plan.steps) == (100, 2)
    assert plan.peak == pytest.approx(0.1 * 100 / 256)


def test_the_update_is_nesterovs() -> None:
    """The authors' optimizer: v <- 0.9 v + g, w <- w - rate (g + 0.9 v), over steps of changing rates."""
    w = torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True)
    optimizer = nesterov([w])
    expected, v = w.detach().clone(), torch.zeros(2, dtype=torch.float64)
    for rate in (0.3, 0.2, 0.05):
        optimizer.param_groups[0]["lr"] = rate
        w.grad = torch.sin(w.detach()) + w.detach()
        g = torch.sin(expected) + expected
        v = 0.9 * v + g
        expected = expected - rate * (g + 0.9 * v)
        optimizer.step()
    torch.testing.assert_close(w.detach(), expected, rtol=1e-12, atol=0)
