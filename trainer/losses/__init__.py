"""Contrastive losses of two views of every image: NT-Xent (eq. 1) and what Table 2 compares it with.

Legend: N images, 2N views, n and 2n of them a rank's own, D projection dim.
"""

from torch import Tensor

from models.config import Loss
from trainer.losses.margin import margin_triplet
from trainer.losses.nt_logistic import nt_logistic
from trainer.losses.nt_xent import nt_xent
from trainer.ranks import ALONE, Ranks


def contrastive_loss(z: Tensor, config: Loss, ranks: Ranks = ALONE) -> Tensor:
    """The recipe's loss of the projections z (2N, D), a scalar.

    z is float32 or float64, not normalised; rows 0..N-1 are x1, rows N..2N-1 are x2. Memory is linear in N.

    Of several ranks each gives its own rows, z (2n, D), and has the loss over all ranks' images, the same number on
    each. The gradient is that of this loss by the own rows, complete: of what all ranks share (the parameters) the
    gradient is the sum over ranks.
    """
    normalize, other_view = config.normalize, config.negatives == "other_view"
    if config.name == "nt_xent":
        return nt_xent(z, config.temperature, normalize=normalize, other_view=other_view, ranks=ranks)
    pairs = {"normalize": normalize, "other_view": other_view, "semi_hard": config.semi_hard}
    if config.name == "nt_logistic":
        return nt_logistic(z, config.temperature, **pairs, ranks=ranks)
    return margin_triplet(z, config.margin, **pairs, ranks=ranks)
