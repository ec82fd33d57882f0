"""Vectors that were computed before, by what they were computed from.

Legend: D size of a layer.
"""

import hashlib
from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

from models.preprocess import PREPROCESSING_VERSION

Key = tuple[bytes, str, str, int]
ENTRY_BYTES = 512  # of a key, an array and their places, beside the vector


def key_of(content: bytes, model_sha256: str, layer: str) -> Key:
    """The key of an image file's vector: whatever changes a vector is in it, so that a switch of models is no event."""
    return hashlib.sha256(content).digest(), model_sha256, layer, PREPROCESSING_VERSION


class ResultCache:
    """At most `max_bytes` of vectors, the least recently used ones leave first; none are kept of 0 bytes."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._num_bytes = 0
        self._vectors: OrderedDict[Key, NDArray[np.float32]] = OrderedDict()

    def get(self, key: Key) -> NDArray[np.float32] | None:
        """The vector (D,) float32, if it is here."""
        if key not in self._vectors:
            return None
        self._vectors.move_to_end(key)
        return self._vectors[key]

    def put(self, key: Key, vector: NDArray[np.float32]) -> None:
        """Keep a vector (D,) float32."""
        if key in self._vectors:
            return
        self._vectors[key] = vector.copy()  # a row would keep its whole batch
        self._num_bytes += vector.nbytes + ENTRY_BYTES
        while self._num_bytes > self.max_bytes:
            _, oldest = self._vectors.popitem(last=False)
            self._num_bytes -= oldest.nbytes + ENTRY_BYTES
