"""NT-Logistic, the normalised temperature-scaled logistic loss (Table 2), in memory linear in the batch.

Legend: N images, 2N views, D projection dim; R anchors and K negatives of a block; p is anchor i's positive.

    s_ik = cos(z_i, z_k) / temperature                               or z_i . z_k / temperature
    l_i  = -log sigmoid(s_ip) - mean_k log sigmoid(-s_ik)            k: the negatives of i
    L    = mean_i l_i
"""

import torch.nn.functional as F
from torch import Tensor

from trainer.losses.pairs import mean_over_anchors
from trainer.ranks import ALONE, Ranks


def nt_logistic(
    z: Tensor,
    temperature: float,
    *,
    normalize: bool = True,
    other_view: bool = False,
    semi_hard: bool = False,
    ranks: Ranks = ALONE,
) -> Tensor:
    """NT-Logistic of the projections z (2N, D), float32 or float64, not normalised; rows 0..N-1 are x1, N..2N-1 are x2.

    Returns the mean over the 2N views, a scalar. Table 2 has one negative and leaves their reduction open: the mean
    gives negatives and positive the same weight, whatever the batch size. `semi_hard` keeps an anchor's most similar
    negative that is less similar than the positive; an anchor that has none pays for its positive alone.
    """
    z = F.normalize(z, dim=1) if normalize else z
    return mean_over_anchors(
        z, _terms, temperature=temperature, other_view=other_view, semi_hard=semi_hard, ranks=ranks
    )


def _terms(positives: Tensor, negatives: Tensor) -> tuple[Tensor, Tensor]:
    return -F.logsigmoid(positives), -F.logsigmoid(-negatives)  # (R, 1), (R, K)
