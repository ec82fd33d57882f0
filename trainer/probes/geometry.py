"""How a layer's outputs lie in their space, labels apart.

Legend: M images, D size of a layer, P pairs of images.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize


def effective_rank(h: Tensor) -> float:
    """Of h (M, D): how many directions the centred images fill, 1 to min(M - 1, D); 0 where all are equal.

    The exponential of the entropy of the singular values divided by their sum (Roy & Vetterli, EUSIPCO 2007). They are
    the roots of the smaller Gram matrix's eigenvalues; what float32 can't tell from 0 counts as 0.
    """
    h = h.double()
    centred = h - h.mean(dim=0)
    gram = centred.T @ centred if len(h) > h.shape[1] else centred @ centred.T
    values = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt()  # (min(M, D),)
    values = values[values > torch.finfo(torch.float32).eps * torch.linalg.norm(h)]
    if not len(values):
        return 0.0
    shares = values / values.sum()
    return float(torch.special.entr(shares).sum().exp())


def alignment(h1: Tensor, h2: Tensor) -> float:
    """Mean squared distance of an image's two views on the unit sphere, h1 and h2 (M, D); 0 is the best, 4 the most.

    L_align of Wang & Isola (arXiv 2005.10242) with their alpha = 2.
    """
    return float((normalize(h1) - normalize(h2)).square().sum(dim=1).double().mean())


def uniformity(h: Tensor) -> float:
    """The log of the mean exp(-2 |u - v|^2) over pairs of different images u, v of h (M, D) on the unit sphere.

    L_uniform of Wang & Isola (arXiv 2005.10242) with their t = 2: the lower, the more evenly spread. 0 where all are
    equal; -4 or little above where many are spread evenly in many dimensions.
    """
    distances = torch.pdist(normalize(h))  # (P,)
    return float(distances.double().square().mul(-2).exp().mean().log())
