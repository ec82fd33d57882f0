"""LARS as in the authors' code, the learning rate's scaling and its schedule (Section 2, B.1, App. A).

Weight decay and adaptation are for kernels: not for biases, the parameters of norms, nor a ViT's class token.
"""

import math
from collections.abc import Callable
from typing import Any, overload

import torch
from torch import Tensor, nn

from models.config import Optimizer as OptimizerConfig
from models.config import Schedule

LARS_ETA = 0.001

Tensors = list[Tensor] | tuple[Tensor, ...]


class LARS(torch.optim.Optimizer):
    """Layer-wise adaptive rate scaling (google-research/simclr, lars_optimizer.py), classic momentum.

        g <- g + weight_decay w
        trust = eta |w| / |g|              1 if either norm is 0, or if the group doesn't adapt
        v <- momentum v + lr trust g       the learning rate is inside the momentum buffer
        w <- w - v

    All norms stay on the device: a step never waits for it.
    """

    def __init__(self, params: Any, *, lr: float, momentum: float, weight_decay: float) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "adapt": True})

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update every parameter that has a gradient."""
        assert closure is None
        for group in self.param_groups:
            weights = [w for w in group["params"] if w.grad is not None]
            if not weights:
                continue
            for w in weights:
                if not self.state[w]:
                    self.state[w]["momentum_buffer"] = torch.zeros_like(w)
            buffers = [self.state[w]["momentum_buffer"] for w in weights]
            gradients: Tensors = [w.grad for w in weights]
            if group["weight_decay"]:
                gradients = torch._foreach_add(gradients, weights, alpha=group["weight_decay"])  # noqa: SLF001  # fused
            if group["adapt"]:
                gradients = torch._foreach_mul(gradients, _trust_ratios(weights, gradients))  # noqa: SLF001
            torch._foreach_mul_(buffers, group["momentum"])
            torch._foreach_add_(buffers, gradients, alpha=group["lr"])
            torch._foreach_sub_(weights, buffers)
        return None


def _trust_ratios(weights: Tensors, gradients: Tensors) -> list[Tensor]:
    """The ratio eta |w| / |g| of each tensor, or 1 where a norm is 0; P scalars on the device."""
    w_norms = torch.stack(torch._foreach_norm(weights))  # noqa: SLF001  # (P,)
    g_norms = torch.stack(torch._foreach_norm(gradients))  # noqa: SLF001  # (P,)
    both = (w_norms > 0) & (g_norms > 0)
    return list(torch.where(both, LARS_ETA * w_norms / g_norms, 1.0).unbind())


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """The recipe's optimizer over two groups: kernels, then all else that is trained; the loop sets the learning rate.

    Kernels are the weights of linear layers and convolutions. What is frozen is in neither group.
    """
    kernel_ids = {id(layer.weight) for layer in model.modules() if isinstance(layer, nn.Linear | nn.Conv2d)}
    trained = [w for w in model.parameters() if w.requires_grad]
    kernels = [w for w in trained if id(w) in kernel_ids]
    others = [w for w in trained if id(w) not in kernel_ids]
    groups: list[dict[str, Any]] = [{"params": kernels}, {"params": others, "weight_decay": 0.0}]
    if config.name == "lars":
        groups[1]["adapt"] = False
        return LARS(groups, lr=0.0, momentum=config.momentum, weight_decay=config.weight_decay)
    if config.name == "sgd":
        return torch.optim.SGD(groups, lr=0.0, momentum=config.momentum, weight_decay=config.weight_decay)
    return torch.optim.AdamW(groups, lr=0.0, betas=(config.momentum, 0.999), weight_decay=config.weight_decay)


def peak_learning_rate(config: OptimizerConfig, batch_size: int) -> float:
    """The learning rate after warm-up; `batch_size` counts images (B.1)."""
    if config.scaling == "linear":
        return config.learning_rate * batch_size / 256
    if config.scaling == "sqrt":
        return config.learning_rate * math.sqrt(batch_size)
    return config.learning_rate


def learning_rate(step: int, *, peak: float, schedule: Schedule, steps_per_epoch: int) -> float:
    """The rate of step 0, 1, ...: linear warm-up from 0, then half a cosine down to 0."""
    warmup_steps = round(schedule.warmup_epochs * steps_per_epoch)
    if step < warmup_steps:
        return peak * step / warmup_steps
    decay_steps = schedule.epochs * steps_per_epoch - warmup_steps
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / decay_steps))
