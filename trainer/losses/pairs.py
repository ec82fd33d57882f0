"""Losses that are a sum over pairs of views (Table 2), in memory linear in the batch.

Legend: N images, 2N views, 2n of them a rank's own, D projection dim; R anchors (rows) and K other views (columns) of a
block.

A rank makes the blocks of its own anchors. Each is a function of all views, so their gradients are summed over ranks.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from trainer.losses.similarities import Block, blocks, joined_rows, similarities
from trainer.ranks import ALONE, Ranks

PairLoss = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def mean_over_anchors(
    z: Tensor,
    pair_loss: PairLoss,
    *,
    temperature: float = 1.0,
    other_view: bool,
    semi_hard: bool,
    ranks: Ranks = ALONE,
) -> Tensor:
    """Mean over the 2N anchors of all z (2n, D) of (term of the positive + mean over the negatives of their terms).

    `pair_loss` makes the terms (R, 1) and (R, K) of the similarities z_i . z_k / temperature of the positives (R, 1)
    and the negatives (R, K); an absent negative is -inf there, and its term must be 0. Negatives are the 2N - 2 views
    of the other images, with `other_view` the N - 1 that the positive's branch made. With `semi_hard` an anchor has
    one negative, the most similar one that is less similar than the positive (Section 5.1), or none.
    """
    num_images = len(z) // 2 * ranks.size
    num_negatives = 1 if semi_hard else (num_images - 1) * (1 if other_view else 2)
    block_sum = partial(
        _sum_over_anchors,
        pair_loss=pair_loss,
        temperature=temperature,
        num_negatives=max(num_negatives, 1),  # one image has none: their sum is 0
        semi_hard=semi_hard,
    )
    total: Tensor = _SumOverBlocks.apply(z, block_sum, other_view, ranks)
    return total / (2 * num_images)


class _SumOverBlocks(torch.autograd.Function):
    """The sum of `block_sum(z, block)` over all blocks; each is differentiated and dropped before the next is made.

    z (2n, D) are a rank's own rows; the sum is over the blocks of all ranks.
    """

    @staticmethod
    def forward(
        ctx: Any,
        z: Tensor,
        block_sum: Callable[[Tensor, Block], Tensor],
        other_view: bool,  # noqa: FBT001  # apply() takes no keywords
        ranks: Ranks,
    ) -> Tensor:
        total, leaf = z.new_zeros(()), ranks.gather_views(z.detach()).requires_grad_()  # (), (2N, D)
        leaf.grad = torch.zeros_like(leaf)
        own = ranks.own_views(len(leaf))
        for block in (b for rows in own for b in blocks(rows.start, rows.stop, len(leaf), other_view=other_view)):
            with torch.enable_grad():
                of_block = block_sum(leaf, block)
            of_block.backward()  # type: ignore[no-untyped-call]  # torch's stub
            total += of_block.detach()
        gradient = ranks.sum(leaf.grad)  # (2N, D)
        ctx.save_for_backward(joined_rows([gradient[rows] for rows in own]))
        return ranks.sum(total)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors  # (2n, D)
        return gradients[0] * gradient, None, None, None


def _sum_over_anchors(
    z: Tensor, block: Block, *, pair_loss: PairLoss, temperature: float, num_negatives: int, semi_hard: bool
) -> Tensor:
    negatives = similarities(z, block, temperature)  # (R, K)
    positives = negatives.diagonal(block.positive)[:, None].clone()  # (R, 1)
    negatives.diagonal(block.positive).fill_(-torch.inf)
    if semi_hard:
        negatives = _semi_hard(positives, negatives)  # (R, 1)
    of_positives, of_negatives = pair_loss(positives, negatives)  # (R, 1), (R, K)
    return of_positives.sum() + of_negatives.sum() / num_negatives


def _semi_hard(positives: Tensor, negatives: Tensor) -> Tensor:
    """The largest of each row of `negatives` (R, K) below its positive (R, 1), -inf if there is none: (R, 1)."""
    farther = negatives.masked_fill(negatives >= positives, -torch.inf)  # (R, K)
    return farther.max(1, keepdim=True).values  # (R, 1); of equal ones the gradient reaches one, amax would share it
