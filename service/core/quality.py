"""How well a collection's vectors agree with its labels.

Legend: N labelled images, S of them sampled, D size of a vector, C labels.

precision@k: of the k labelled images nearest to a sampled one, the share that have its label, in the mean. Its chance
level is the probability that another labelled image has it. Purity: the sampled images are cut into as many clusters as
they have labels, by k-means of their directions; the share of them that are of their cluster's commonest label.
"""

from collections import Counter, defaultdict
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from service.core.exact_search import Source
from service.core.filters import Exists
from service.core.members import members_of
from service.core.nearest import nearest
from service.core.tables import CollectionImage, EmbeddingTable
from service.core.vectors import stored_vectors

MAX_SAMPLES = 1000
NUM_STARTS, NUM_ITERATIONS = 4, 50
LABELLED = Exists(op="exists", field="label")


class Quality(NamedTuple):
    """The figures; None where fewer than two labelled images have a vector."""

    num_labelled: int
    num_sampled: int
    precision: float | None
    chance: float | None
    purity: float | None
    by_label: dict[str, tuple[int, float]]  # sampled images, and their precision


def measure_quality(session: Session, table: EmbeddingTable, collection_id: str, k: int) -> Quality:
    """The quality of a collection; the sampled images are the first in order of id, which is a hash."""
    source = Source.of_members(table, members_of(collection_id, LABELLED))
    statement = f"select c.label, count(*) as number from {source.sql} group by c.label"  # noqa: S608  # its values are parameters
    counts = {row.label: row.number for row in session.execute(text(statement), source.parameters)}
    statement = f"""
        select v.image_id, c.label from {source.sql} and v.h <> :zero order by v.image_id limit {MAX_SAMPLES:d}
    """  # noqa: S608  # as above
    zero = np.zeros(table.size, np.float32)
    labels = {row.image_id: row.label for row in session.execute(text(statement), {**source.parameters, "zero": zero})}
    number = sum(counts.values())
    if number < 2 or not labels:
        return Quality(number, len(labels), None, None, None, {})
    stored = stored_vectors(session, table, labels)
    h = np.stack([stored[image_id] for image_id in labels])  # (S, D)
    shares = _shares(session, table, collection_id, labels, h, k)
    by_label: dict[str, list[float]] = defaultdict(list)
    for label, share in zip(labels.values(), shares, strict=True):
        by_label[label].append(share)
    return Quality(
        number,
        len(labels),
        float(np.mean(shares)),
        sum(n * (n - 1) for n in counts.values()) / (number * (number - 1)),
        purity(h, list(labels.values())),
        {label: (len(found), float(np.mean(found))) for label, found in sorted(by_label.items())},
    )


def _shares(
    session: Session,
    table: EmbeddingTable,
    collection_id: str,
    labels: dict[str, str],
    h: NDArray[np.float32],
    k: int,
) -> list[float]:
    """For each sampled image the share of its k nearest labelled ones that have its label."""
    found = nearest(session, table, h, collection_id=collection_id, k=k + 1, condition=LABELLED)
    ids = sorted({hit.image_id for hits in found for hit in hits})
    said = select(CollectionImage.image_id, CollectionImage.label).where(
        CollectionImage.collection_id == collection_id, CollectionImage.image_id == func.any(ids)
    )
    of = {row.image_id: row.label for row in session.execute(said)}
    shares = []
    for (image_id, label), hits in zip(labels.items(), found, strict=True):
        others = [of[hit.image_id] for hit in hits if hit.image_id != image_id][:k]
        shares.append(others.count(label) / max(1, len(others)))
    return shares


def purity(h: NDArray[np.float32], labels: list[str]) -> float:
    """Purity of the clusters of vectors (S, D), the tightest of NUM_STARTS runs; a function of the vectors alone."""
    units = h / np.linalg.norm(h, axis=1, keepdims=True)
    num_clusters = len(set(labels))
    runs = [_clusters(units, num_clusters, seed) for seed in range(NUM_STARTS)]
    assigned = max(runs, key=lambda run: run[1])[0]
    commonest = [Counter(label for label, c in zip(labels, assigned, strict=True) if c == i) for i in set(assigned)]
    return sum(counter.most_common(1)[0][1] for counter in commonest) / len(labels)


def _clusters(units: NDArray[np.float32], number: int, seed: int) -> tuple[list[int], float]:
    """Spherical k-means from far starts: each vector's cluster, and the mean cosine to its centre."""
    draw = np.random.default_rng(seed)
    centres = units[[draw.integers(len(units))]]  # (C, D)
    while len(centres) < number:
        far = np.maximum(1 - (units @ centres.T).max(axis=1), 0)
        weights = far / far.sum() if far.any() else None
        centres = np.vstack([centres, units[draw.choice(len(units), p=weights)]])
    for _ in range(NUM_ITERATIONS):
        assigned = (units @ centres.T).argmax(axis=1)
        for i in set(assigned.tolist()):
            total = units[assigned == i].sum(axis=0)
            centres[i] = total / max(np.linalg.norm(total), 1e-12)
    cosines = units @ centres.T  # (S, C)
    return cosines.argmax(axis=1).tolist(), float(cosines.max(axis=1).mean())
