"""Batch norm over the views of all ranks (Section 2.2: global BN), forward and backward.

Legend: W ranks, M values of a channel on one of them (the same number on each), C channels.

    y  = gamma xhat + beta,   xhat = (x - mean) / sqrt(var + eps)            mean and var of all W M values
    dx = gamma / sqrt(var + eps) * (dy - (sum dy + xhat sum dy xhat) / (W M))     sums over all W M values

`nn.SyncBatchNorm` is the same for CUDA and refuses a CPU's tensors.
"""

from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from trainer.ranks import Ranks


class GlobalBatchNorm(_BatchNorm):
    """Batch norm of (M, C) or (m, C, H, W), float32, float64, or bfloat16 with float32 statistics; on the CPU."""

    ranks: Ranks

    @classmethod
    def like(cls, norm: _BatchNorm, ranks: Ranks) -> Self:
        """The same norm, of the same parameters and buffers, over all ranks."""
        assert norm.affine
        assert norm.track_running_stats
        this = cls(norm.num_features, norm.eps, norm.momentum, device="meta")
        this.weight, this.bias = norm.weight, norm.bias
        this.running_mean, this.running_var = norm.running_mean, norm.running_var
        this.num_batches_tracked = norm.num_batches_tracked
        this.ranks = ranks
        return this

    def forward(self, x: Tensor) -> Tensor:
        """Normalise by the batch in training, else by the running statistics."""
        if not self.training:
            return super().forward(x)
        x, gamma, beta, mean, var = _ByAllRanks.apply(x, self.weight, self.bias, self.eps, self.ranks)
        self._move_running_statistics(mean, var, x.numel() // self.num_features * self.ranks.size)
        # As in evaluation: one fused pass each way, and it gives _ByAllRanks the sums that dx is made of.
        return F.batch_norm(x, mean, var, gamma, beta, eps=self.eps)

    def _check_input_dim(self, x: Tensor) -> None:
        assert x.dim() in {2, 4}

    @torch.no_grad()
    def _move_running_statistics(self, mean: Tensor, var: Tensor, count: int) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(var * (count / (count - 1)), self.momentum)


class _ByAllRanks(torch.autograd.Function):
    """x, gamma and beta as they are, and the mean and variance of x over all ranks, (C,) each.

    Backward, what arrives is a rank's part as if mean and variance were constants: dy gamma / sqrt(var + eps), and of
    gamma and beta the sums over its own values of dy xhat and dy.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, gamma: Tensor, beta: Tensor, eps: float, ranks: Ranks) -> tuple[Tensor, ...]:
        own = torch.stack(torch.batch_norm_update_stats(x, torch.zeros_like(gamma), torch.zeros_like(gamma), 1.0))
        means, variances = ranks.gather(own).unbind(1)  # (W, C) each
        mean = means.mean(0)  # (C,)
        var = variances.mean(0) + means.var(0, correction=0)  # (C,), centred throughout: nothing cancels
        ctx.save_for_backward(x, gamma, mean, var)
        ctx.eps, ctx.ranks = eps, ranks
        ctx.mark_non_differentiable(mean, var)
        return x.view_as(x), gamma.view_as(gamma), beta.view_as(beta), mean, var

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        x, gamma, mean, var = ctx.saved_tensors
        dx, d_gamma, d_beta = gradients[:3]
        sums = ctx.ranks.gather(torch.stack((d_gamma, d_beta))).sum(0)  # (2, C); gloo reduces in three times the time
        scale = -gamma * (var + ctx.eps).rsqrt() / (x.numel() // len(gamma) * ctx.ranks.size)  # (C,)
        # The second term of dx is an affine function of xhat: batch norm with another gamma and beta.
        second = F.batch_norm(x, mean, var, scale * sums[0], scale * sums[1], eps=ctx.eps)
        return second.add_(dx), d_gamma, d_beta, None, None


def over_all_ranks(model: nn.Module, ranks: Ranks) -> None:
    """Make every batch norm of the model one over all ranks; parameters, buffers and their names stay."""
    if ranks.size == 1:
        return
    for name, norm in list(model.named_modules()):
        if isinstance(norm, _BatchNorm):
            is_on_cpu = norm.weight.device.type == "cpu"
            everywhere = (
                GlobalBatchNorm.like(norm, ranks) if is_on_cpu else nn.SyncBatchNorm.convert_sync_batchnorm(norm)  # type: ignore[no-untyped-call]
            )
            model.set_submodule(name, everywhere)
