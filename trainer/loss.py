"""NT-Xent, the normalised temperature-scaled cross-entropy loss (eq. 1), in memory linear in the batch.

Legend: N images, 2N views, D projection dim; rows i and (i + N) mod 2N of z are the two views of one image.

    s_ik = cos(z_i, z_k) / temperature
    l_i  = -log( exp(s_i,pos(i)) / sum_{k != i} exp(s_ik) )          pos(i) = (i + N) mod 2N
    L    = mean_i l_i

The (2N, 2N) matrix s never exists as a whole: blocks of its rows are made in the forward pass, which keeps the log of
each row's sum, and again in the backward pass. s is symmetric, so a block of rows of s is a block of its columns too:

    P_ik = exp(s_ik - lse_i), P_ii = 0
    dL/dz_i = 1 / (2N temperature) * ( sum_k (P_ik + P_ki) z_k - 2 z_pos(i) )          (z normalised)
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK_ROWS = 2048


def _similarities(z: Tensor, start: int, temperature: float) -> Tensor:
    """Rows start.. of s, with -inf in place of each row's similarity to itself: (R, 2N)."""
    s = z[start : start + BLOCK_ROWS] @ z.T / temperature  # (R, 2N)
    rows = torch.arange(s.shape[0], device=s.device)
    s[rows, start + rows] = -torch.inf
    return s


class _NTXent(torch.autograd.Function):
    """The mean loss of normalised projections (2N, D), a scalar."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, temperature: float) -> Tensor:
        starts = range(0, len(z), BLOCK_ROWS)
        lse = torch.cat([_similarities(z, start, temperature).logsumexp(1) for start in starts])  # (2N,)
        positive = (z * z.roll(len(z) // 2, 0)).sum(1) / temperature  # (2N,)
        ctx.save_for_backward(z, lse)
        ctx.temperature = temperature
        return (lse - positive).mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        z, lse = ctx.saved_tensors  # (2N, D), (2N,)
        blocks = []
        for start in range(0, len(z), BLOCK_ROWS):
            s = _similarities(z, start, ctx.temperature)  # (R, 2N)
            weights = (s - lse[start : start + BLOCK_ROWS, None]).exp() + (s - lse).exp()  # P_ik + P_ki
            blocks.append(weights @ z)
        scale = gradients[0] / (len(z) * ctx.temperature)
        return scale * (torch.cat(blocks) - 2 * z.roll(len(z) // 2, 0)), None


def nt_xent(z: Tensor, temperature: float) -> Tensor:
    """NT-Xent of the projections z (2N, D), float32 or float64, not normalised; rows 0..N-1 are x1, N..2N-1 are x2.

    Returns the mean over the 2N views, a scalar. If all projections are equal it is log(2N - 1).
    """
    loss: Tensor = _NTXent.apply(F.normalize(z, dim=1), temperature)
    return loss
