"""Two numbers for each vector: its first two principal components, as a map shows them.

Legend: N vectors, M of them fitted to, D their size, L directions that are iterated.

Of directions (vectors of length 1), since similarity is the cosine. The components are fitted to the first vectors in
order of id, which are a sample by chance: ids are hashes.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from service.core.exact_search import Source, blocks
from service.core.members import Members
from service.core.tables import EmbeddingTable

MAX_POINTS = 100_000
FIT_VALUES = 16_000_000  # of the vectors that are fitted to: 64 MB
NUM_ITERATED, NUM_ITERATIONS = 10, 24


class Projection(NamedTuple):
    """Ids in order, and their points (N, 2) float32."""

    image_ids: list[str]
    points: NDArray[np.float32]


def project(session: Session, table: EmbeddingTable, members: Members, at_most: int = MAX_POINTS) -> Projection:
    """The map of the first `at_most` members in order of id that have a vector, and one with a direction."""
    source = Source.of_members(table, members)
    num_fitted = min(at_most, FIT_VALUES // table.size)
    fitted = Source(f"{source.sql} order by v.image_id limit {num_fitted:d}", source.parameters)
    sample = [directions(ids, h)[1] for ids, h in blocks(session, fitted, table.size)]
    if not sample or not sum(map(len, sample)):
        return Projection([], np.empty((0, 2), np.float32))
    mean, axes = principal_axes(np.concatenate(sample))
    everything = Source(f"{source.sql} order by v.image_id limit {at_most:d}", source.parameters)
    image_ids: list[str] = []
    points = []
    for ids, h in blocks(session, everything, table.size):
        kept, units = directions(ids, h)
        image_ids += kept
        points.append((units - mean) @ axes)  # (rows, 2)
    return Projection(image_ids, np.concatenate(points))


def directions(image_ids: list[str], h: NDArray[np.float32]) -> tuple[list[str], NDArray[np.float32]]:
    """The vectors (rows, D) scaled to length 1, and whose they are; zeros have no direction and are left out."""
    lengths = np.linalg.norm(h, axis=1)
    has_direction = lengths > 0
    kept = [image_id for image_id, has in zip(image_ids, has_direction.tolist(), strict=True) if has]
    return kept, h[has_direction] / lengths[has_direction, None]


def principal_axes(x: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The mean (D,) of vectors (M, D) and the two axes (D, 2) of greatest variance, by subspace iteration.

    Its largest value makes an axis positive, so the same vectors give the same map. Axes without variance are zeros.
    """
    mean = x.mean(axis=0)
    centred = x - mean
    size = min(NUM_ITERATED, *x.shape)
    basis = np.random.default_rng(0).standard_normal((x.shape[1], size)).astype(np.float32)  # (D, L)
    for _ in range(NUM_ITERATIONS):
        basis, _ = np.linalg.qr(centred.T @ (centred @ basis))
    _, sizes, rotation = np.linalg.svd(centred @ basis, full_matrices=False)  # (L,), (L, L)
    axes = (basis @ rotation.T)[:, :2]  # (D, 2)
    axes *= np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    axes[:, sizes[: axes.shape[1]] < 1e-6 * np.sqrt(len(x))] = 0
    return mean, np.pad(axes, ((0, 0), (0, 2 - axes.shape[1])))
