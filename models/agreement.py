"""How well a variant's vectors agree with those that the trained network gives in float32.

Legend: M images, D size of a layer, k neighbours.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

NUM_NEIGHBORS = 10
MIN_NEIGHBORHOOD = 3  # images; of two each is the other's neighbour, whatever the vectors

Vectors = dict[str, NDArray[np.float32]]  # layer -> (M, D)


def agreement(vectors: Vectors, expected: Vectors) -> dict[str, Any]:
    """`cosine` of each layer, least and mean over the images; of h also whether the neighbours are the same.

    `knn_agreement` is the share of images whose nearest neighbour among the others (cosine) is the expected one,
    `knn_overlap` the mean share of the expected ten (or fewer) nearest; null for fewer than three images. A cosine of
    what isn't finite is null too.
    """
    cosines = {layer: row_cosines(vectors[layer], of_layer) for layer, of_layer in expected.items()}
    return {
        "cosine": {layer: {"min": _number(c.min()), "mean": _number(c.mean())} for layer, c in cosines.items()},
        **_neighbor_agreement(vectors["h"], expected["h"]),
    }


def row_cosines(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """Row by row, (M, D) twice -> (M,); two zero rows (the raw pixels of a black image) have cosine 1."""
    with np.errstate(invalid="ignore"):  # half precision may overflow; the cosine then is NaN
        dots = (a.astype(np.float64) * b).sum(axis=1)  # (M,)
        norms = np.linalg.norm(a.astype(np.float64), axis=1) * np.linalg.norm(b.astype(np.float64), axis=1)  # (M,)
        both_zero = ~a.any(axis=1) & ~b.any(axis=1)  # (M,)
        cosines: NDArray[np.float64] = np.where(both_zero, 1.0, dots / np.where(norms, norms, 1.0))
    return cosines


def _number(value: np.floating) -> float | None:
    return float(value) if np.isfinite(value) else None


def _neighbor_agreement(h: NDArray[np.float32], expected: NDArray[np.float32]) -> dict[str, float | None]:
    if len(h) < MIN_NEIGHBORHOOD:
        return {"knn_agreement": None, "knn_overlap": None}
    k = min(NUM_NEIGHBORS, len(h) - 1)
    found, wanted = nearest(h, k), nearest(expected, k)  # (M, k)
    shared = (found[:, :, None] == wanted[:, None, :]).any(axis=2)  # (M, k)
    return {"knn_agreement": float((found[:, 0] == wanted[:, 0]).mean()), "knn_overlap": float(shared.mean())}


def nearest(h: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """The k images most similar to each by cosine, best first and never itself: (M, D) -> (M, k)."""
    norms = np.linalg.norm(h.astype(np.float64), axis=1, keepdims=True)  # (M, 1)
    with np.errstate(invalid="ignore"):
        unit = h / np.where(norms, norms, 1.0)  # (M, D)
        similarity = unit @ unit.T  # (M, M)
    np.fill_diagonal(similarity, -np.inf)
    return np.argsort(-similarity, axis=1, kind="stable")[:, :k]
