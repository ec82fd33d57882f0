"""What copies are usually found by without learning: pHash, 64 bits of an image's lowest frequencies.

Legend: N images.
"""

import io
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn

Hashes = NDArray[np.bool_]


def hash_of(content: bytes) -> Hashes:
    """The bits (64,): which of the 8 x 8 lowest frequencies of 32 x 32 grey pixels are above their median."""
    with Image.open(io.BytesIO(content)) as opened:
        grey = np.asarray(opened.convert("L").resize((32, 32), Image.Resampling.LANCZOS), np.float64)
    lowest = dctn(grey, norm="ortho")[:8, :8].ravel()
    bits: Hashes = lowest > np.median(lowest)
    return bits


def hashes_of(contents: Iterable[bytes]) -> Hashes:
    """The bits (N, 64)."""
    return np.stack([hash_of(content) for content in contents])


def rank(hashes: Hashes, copy: Hashes, original: int) -> int:
    """The place of the image number `original` by Hamming distance to a copy's bits; who ties with it goes first."""
    distances = (hashes != copy).sum(axis=1)  # (N,)
    return int((distances <= distances[original]).sum())
