"""Vectors to search in: clustered like representations, by seed, in blocks; and notes to filter by.

Legend: N vectors, D their size, C clusters.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

BLOCK = 10_000
SPREAD = 0.5  # of a cluster, over the distance of its centre from the origin
SELECTIVITIES = (0.5, 0.1, 0.01, 0.001)

Vectors = NDArray[np.float32]


class Clustered:
    """N vectors (N, D) around C = sqrt(N) centres, and as many queries as one likes of the same kind."""

    def __init__(self, number: int, size: int, seed: int) -> None:
        self.number = number
        self.size = size
        self._seed = seed
        draw = np.random.default_rng([seed, 0])
        self._centres = draw.standard_normal((round(number**0.5), size)).astype(np.float32)
        self._direction = draw.standard_normal(size).astype(np.float32)
        sample = self._draw(2_000, np.random.default_rng([seed, 1]))
        self._cuts = np.sort(self._height(sample))

    def blocks(self) -> Iterator[Vectors]:
        """All N, in blocks that come out the same every time."""
        for start in range(0, self.number, BLOCK):
            draw = np.random.default_rng([self._seed, 2, start])
            yield self._draw(min(BLOCK, self.number - start), draw)

    def queries(self, number: int) -> Vectors:
        """Vectors (number, D) that are none of the N."""
        return self._draw(number, np.random.default_rng([self._seed, 3]))

    def ranks(self, vectors: Vectors) -> NDArray[np.float64]:
        """A number in [0, 1) for each vector that goes with it: how far it lies along one direction."""
        return np.minimum(np.searchsorted(self._cuts, self._height(vectors)) / len(self._cuts), 0.9999)

    def _height(self, vectors: Vectors) -> Vectors:
        height: Vectors = vectors @ self._direction / np.linalg.norm(vectors, axis=1)
        return height

    def _draw(self, number: int, draw: np.random.Generator) -> Vectors:
        centres = self._centres[draw.integers(0, len(self._centres), number)]
        return centres + np.float32(SPREAD) * draw.standard_normal((number, self.size), np.float32)


def notes(ranks: NDArray[np.float64], draw: np.random.Generator) -> list[dict[str, int]]:
    """Metadata with an equality for each selectivity: `any_10` is 0 for one vector in ten, `near_10` by its rank."""
    numbers = {name: draw.integers(0, 1000, len(ranks)) for name in ("any",)} | {"near": (1000 * ranks).astype(int)}
    return [
        {
            f"{name}_{round(1 / s)}": int(drawn[i] // (1000 * s))
            for name, drawn in numbers.items()
            for s in SELECTIVITIES
        }
        for i in range(len(ranks))
    ]
