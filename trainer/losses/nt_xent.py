"""NT-Xent, the normalised temperature-scaled cross-entropy loss (eq. 1), in memory linear in the batch.

Legend: N images, 2N views, 2n of them a rank's own, D projection dim, R rows of a range, K columns of a block;
rows i and (i + N) mod 2N of z are the two views of one image.

    s_ik = cos(z_i, z_k) / temperature                               or z_i . z_k / temperature (Table 5)
    l_i  = -log( exp(s_i,pos(i)) / sum_{k in A(i)} exp(s_ik) )       pos(i) = (i + N) mod 2N
    L    = mean_i l_i

A(i) is all k != i (eq. 1), or the N views that the other branch made (B.10). The positive is in both.

The matrix s never exists as a whole: blocks of its rows are made in the forward pass, which keeps the log of each row's
sum, and again in the backward pass. s and A are symmetric, so a block of rows of s is a block of its columns too:

    P_ik = exp(s_ik - lse_i) for k in A(i), else 0
    dL/dz_i = 1 / (2N temperature) * ( sum_k (P_ik + P_ki) z_k - 2 z_pos(i) )      (z the vectors in the dot products)

A rank needs all z for this, and lse: it makes its own rows of lse, and of the gradient, which is complete as it is.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from trainer.losses import nt_xent_triton
from trainer.losses.similarities import blocks, joined_rows, similarities
from trainer.ranks import ALONE, Ranks


def nt_xent(
    z: Tensor, temperature: float, *, normalize: bool = True, other_view: bool = False, ranks: Ranks = ALONE
) -> Tensor:
    """NT-Xent of the projections z (2N, D), float32 or float64, not normalised; rows 0..N-1 are x1, N..2N-1 are x2.

    Returns the mean over the 2N views, a scalar. If all projections are equal it is log(2N - 1), with `other_view`
    log N.
    """
    loss: Tensor = _NTXent.apply(F.normalize(z, dim=1) if normalize else z, temperature, other_view, ranks)
    return loss


class _NTXent(torch.autograd.Function):
    """The mean loss of all ranks' z with dot products, a scalar, of a rank's own rows z (2n, D)."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, temperature: float, other_view: bool, ranks: Ranks) -> Tensor:  # noqa: FBT001  # apply() takes no keywords
        everyone = ranks.gather_views(z)  # (2N, D)
        log_sum_exp, _ = row_functions(everyone)
        own = ranks.own_views(len(everyone))
        parts = [log_sum_exp(everyone, rows.start, rows.stop, temperature, other_view) for rows in own]
        lse = ranks.gather_views(joined_rows(parts))  # (2N,)
        positive = (everyone * everyone.roll(len(everyone) // 2, 0)).sum(1) / temperature  # (2N,)
        ctx.save_for_backward(z, everyone, lse)
        ctx.temperature, ctx.other_view, ctx.own = temperature, other_view, own
        return (lse - positive).mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        z, everyone, lse = ctx.saved_tensors  # (2n, D), (2N, D), (2N,)
        _, weighted_sums = row_functions(everyone)
        parts = [
            weighted_sums(everyone, lse, rows.start, rows.stop, ctx.temperature, ctx.other_view) for rows in ctx.own
        ]
        scale = gradients[0] / (len(everyone) * ctx.temperature)
        return scale * (joined_rows(parts) - 2 * z.roll(len(z) // 2, 0)), None, None, None


def row_functions(z: Tensor) -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
    """`log_sum_exp` and `weighted_sums` for z: the Triton kernels where they can take it, else those below."""
    if nt_xent_triton.supports(z):
        return nt_xent_triton.log_sum_exp, nt_xent_triton.weighted_sums
    return log_sum_exp, weighted_sums


def log_sum_exp(z: Tensor, start: int, stop: int, temperature: float, other_view: bool) -> Tensor:  # noqa: FBT001
    """lse_i = log sum_{k in A(i)} exp(s_ik) for rows start..stop of z (2N, D): (R,)."""
    lse = z.new_empty(stop - start)  # made first: between blocks it would scatter a CPU's heap
    for block in blocks(start, stop, len(z), other_view=other_view):
        s = similarities(z, block, temperature)  # (R, K)
        maxima = s.amax(1, keepdim=True)  # (R, 1), finite: the positive is in A(i)
        lse[block.part] = s.sub_(maxima).exp_().sum(1).log_() + maxima[:, 0]
        del s  # the next block takes its place
    return lse


def weighted_sums(
    z: Tensor,
    lse: Tensor,
    start: int,
    stop: int,
    temperature: float,
    other_view: bool,  # noqa: FBT001
) -> Tensor:
    """sum_k (P_ik + P_ki) z_k for rows start..stop of z (2N, D) with lse (2N,), that of all rows: (R, D)."""
    sums = z.new_empty(stop - start, z.shape[1])
    for block in blocks(start, stop, len(z), other_view=other_view):
        s = similarities(z, block, temperature)  # (R, K)
        weights = (s - lse[block.rows, None]).exp_()  # P_ik
        weights += s.sub_(lse[block.columns]).exp_()  # P_ki
        torch.mm(weights, z[block.columns], out=sums[block.part])  # (R, D)
        del s, weights
    return sums
