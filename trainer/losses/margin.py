"""The margin triplet loss (Table 2), in memory linear in the batch.

Legend: N images, 2N views, D projection dim; R anchors and K negatives of a block; p is anchor i's positive.

    s_ik = cos(z_i, z_k)                                             or z_i . z_k
    l_i  = mean_k max(s_ik - s_ip + m, 0)                            k: the negatives of i; m: the margin
    L    = mean_i l_i
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.losses.pairs import mean_over_anchors
from trainer.ranks import ALONE, Ranks


def margin_triplet(
    z: Tensor,
    margin: float,
    *,
    normalize: bool = True,
    other_view: bool = False,
    semi_hard: bool = False,
    ranks: Ranks = ALONE,
) -> Tensor:
    """Margin loss of the projections z (2N, D), float32 or float64, not normalised; rows 0..N-1 are x1, N..2N-1 are x2.

    Returns the mean over the 2N views, a scalar. Table 2 has one negative and leaves their reduction open: it is the
    mean here. `semi_hard` keeps an anchor's most similar negative that is less similar than the positive; an anchor
    that has none within the margin pays nothing.
    """
    z = F.normalize(z, dim=1) if normalize else z
    return mean_over_anchors(z, partial(_terms, margin=margin), other_view=other_view, semi_hard=semi_hard, ranks=ranks)


def _terms(positives: Tensor, negatives: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    return torch.zeros_like(positives), F.relu(negatives - positives + margin)  # (R, 1), (R, K)
