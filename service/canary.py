"""The canary: what a model that was just loaded must compute before anyone is served by it. Its runs warm the model up.

Legend: M images, S image side, D size of h.
"""

import time

import numpy as np
from numpy.typing import NDArray

from models.embedder import REFUSALS, Embedder

WARM_BATCHES = (1, 4, 16)  # images: usual batches, each of which ONNX Runtime plans at its first run
WARM_LANE_BATCHES = (1, 4)
MIN_COSINE = 0.999  # of an image's vector to itself in another batch


class CanaryFailed(RuntimeError):
    """A model doesn't compute what a model computes."""


def check(embedder: Embedder) -> float:
    """Embed the same images in batches of every usual size; seconds an image, at best. Raises CanaryFailed.

    h must be finite and of its size, and an image's h must not depend on its company, nor on whether a lane computes
    it. (Other layers wait until they are asked for: opening them may take a session of its own.)
    """
    images = _images(embedder.preprocessing.image_size)
    seconds = []
    expected: NDArray[np.float32] | None = None
    runs = [(False, num_images) for num_images in reversed(WARM_BATCHES)]
    runs += [(True, num_images) for num_images in WARM_LANE_BATCHES if embedder.has_lanes]
    for in_lane, num_images in runs:
        started_at = time.monotonic()
        try:
            h = embedder.embed(images[:num_images], in_lane=in_lane)
        except REFUSALS as error:
            raise CanaryFailed(f"h: ONNX Runtime can't compute it ({type(error).__name__})") from error
        seconds.append((time.monotonic() - started_at) / num_images)
        _check_values(h, (num_images, embedder.layers["h"]))
        expected = h if expected is None else expected
        _check_company(h, expected[:num_images])
    return min(seconds)


def _check_values(h: NDArray[np.float32], shape: tuple[int, int]) -> None:
    if h.shape != shape:
        raise CanaryFailed(f"h: {shape} expected, not {h.shape}")
    if not np.isfinite(h).all():
        raise CanaryFailed("h: not finite")


def _check_company(h: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    cosine = _least_cosine(h, expected)
    if cosine < MIN_COSINE:
        raise CanaryFailed(f"h: it changes with its batch, cosine {cosine:.4f}; at least {MIN_COSINE}")


def _least_cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Row by row; vectors of zeros (all units of a layer are dead) are alike."""
    dots = np.einsum("md,md->m", a, b, dtype=np.float64)  # (M,)
    norms = np.linalg.norm(a, axis=1).astype(np.float64) * np.linalg.norm(b, axis=1)  # (M,)
    return float(np.where(norms > 0, dots / np.maximum(norms, np.finfo(np.float64).tiny), a.any() == b.any()).min())


def _images(side: int) -> NDArray[np.uint8]:
    """The same images each time, (M, S, S, 3)."""
    return np.random.default_rng(0).integers(0, 256, (max(WARM_BATCHES), side, side, 3), dtype=np.uint8)
