"""How pretraining goes beyond its loss: what a step's h and z show, looked at now and then.

Legend: N images of a step (of several ranks: the first one's), M of them are looked at; C size of h, D size of z.

    contrastive_accuracy   share of views whose most similar other view is the image's other view (Table 5)
    entropy                of NT-Xent's softmax over a view's 2M - 1 others, mean, in nats (Table 5)
    alignment, uniformity  of z: how close an image's views are, how evenly they spread (arXiv 2005.10242)
    effective_rank_h, _z   how many directions they fill: 0 is a collapse

All are of M <= 256 images, so that runs of other batch sizes can be compared.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from models.config import Loss
from trainer.probes.geometry import alignment, effective_rank, uniformity

MAX_IMAGES = 256  # M: Gram matrices of this size take tens of milliseconds
MIN_IMAGES = 2


@torch.no_grad()
def measures(h: Tensor, z: Tensor, loss: Loss) -> dict[str, float]:
    """The figures above of h (2N, C) and z (2N, D), rows N..2N-1 the second views; none of a single image."""
    M = min(len(z) // 2, MAX_IMAGES)
    if M < MIN_IMAGES:
        return {}
    (h1, _), (z1, z2) = (_views(h, M), _views(z, M))  # (M, C), (M, D)
    figures = _against_others(torch.cat((z1, z2)), loss)
    return figures | {
        "alignment": alignment(z1, z2),
        "uniformity": uniformity(z1),
        "effective_rank_h": effective_rank(h1),
        "effective_rank_z": effective_rank(z1),
    }


def _views(values: Tensor, M: int) -> tuple[Tensor, Tensor]:
    """The first M images' views, float32: (2N, ...) -> (M, ...) twice."""
    x1, x2 = values.chunk(2)
    return x1[:M].float(), x2[:M].float()


def _against_others(z: Tensor, loss: Loss) -> dict[str, float]:
    """Accuracy and, of NT-Xent, entropy over all other views of z (2M, D)."""
    z = normalize(z) if loss.normalize else z
    s = (z @ z.T).fill_diagonal_(-torch.inf)  # (2M, 2M)
    positive = torch.arange(len(z), device=z.device).roll(len(z) // 2)  # (2M,)
    figures = {"contrastive_accuracy": float((s.argmax(1) == positive).double().mean())}
    if loss.name == "nt_xent":
        p = (s / loss.temperature).softmax(1)  # (2M, 2M); 0 on the diagonal
        figures["entropy"] = float(torch.special.entr(p).sum(1).double().mean())
    return figures
