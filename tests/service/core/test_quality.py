"""How a collection's vectors agree with its labels, against definitions written out."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from service.core import quality, vectors
from service.core.db import Database
from service.core.quality import measure_quality, purity
from service.core.tables import CollectionImage, EmbeddingTable
from tests.service.core.stored_images import add_images, image_ids, model_of_size

IDS = image_ids(90)


def blobs(spread: float) -> tuple[NDArray[np.float32], list[str | None]]:
    """Three clusters of directions; their images' labels, with some of another one, and some without."""
    draw = np.random.default_rng(0)
    centres = np.repeat(np.eye(3, 8), 30, axis=0)
    labels: list[str | None] = [*["a"] * 25, *["b"] * 5, *["b"] * 30, *["c"] * 20, *[None] * 10]
    return (10 * (centres + spread * draw.standard_normal((90, 8)))).astype(np.float32), labels


def fill(session: Session, h: NDArray[np.float32], labels: list[str | None]) -> tuple[EmbeddingTable, str]:
    collection = add_images(session, IDS)
    for id_, label in zip(IDS, labels, strict=True):
        session.get_one(CollectionImage, (collection, id_)).label = label
    table = vectors.ensure_table(session, model_of_size(session, h.shape[1]), "h")
    vectors.insert_vectors(session, table, IDS, h)
    return table, collection


def precisions(h: NDArray[np.float32], labels: list[str | None], k: int) -> list[float]:
    """For each labelled image the share of its k nearest labelled ones that have its label."""
    units = h.astype(np.float64) / np.linalg.norm(h, axis=1, keepdims=True)
    labelled = [i for i, label in enumerate(labels) if label]
    shares = []
    for i in labelled:
        others = sorted((j for j in labelled if j != i), key=lambda j: -float(units[i] @ units[j]))[:k]
        shares.append(sum(labels[j] == labels[i] for j in others) / k)
    return shares


def test_precision_is_counted_among_the_labelled(database: Database) -> None:
    """As the definition says, in all and by label; chance is that of a random pair."""
    h, labels = blobs(0.4)
    with database.transaction() as session:
        found = measure_quality(session, *fill(session, h, labels), k=7)
    shares = precisions(h, labels, 7)
    assert (found.num_labelled, found.num_sampled) == (80, 80)
    assert found.precision == pytest.approx(np.mean(shares))
    assert found.chance == pytest.approx((25 * 24 + 35 * 34 + 20 * 19) / (80 * 79))
    of_a = [share for share, label in zip(shares, filter(None, labels), strict=True) if label == "a"]
    assert found.by_label["a"] == (25, pytest.approx(np.mean(of_a)))


def test_a_sample_asks_among_all(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many labelled images the first by id ask, and all may be their neighbours."""
    monkeypatch.setattr(quality, "MAX_SAMPLES", 12)
    h, labels = blobs(0.4)
    with database.transaction() as session:
        found = measure_quality(session, *fill(session, h, labels), k=7)
    shares = dict(
        zip([id_ for id_, label in zip(IDS, labels, strict=True) if label], precisions(h, labels, 7), strict=True)
    )
    assert found.num_sampled == 12
    assert found.precision == pytest.approx(np.mean([shares[id_] for id_ in sorted(shares)[:12]]))


def test_purity_of_clear_clusters() -> None:
    """The commonest label of each cluster counts: 25 of 30, 30 of 30, 20 of 20; it knows no order of images."""
    h, labels = blobs(0.05)
    known = [(x, label) for x, label in zip(h, labels, strict=True) if label]
    for order in (np.arange(80), np.random.default_rng(1).permutation(80)):
        found = purity(np.stack([known[i][0] for i in order]), [known[i][1] for i in order])
        assert found == pytest.approx(75 / 80)


def test_too_few_labels(database: Database) -> None:
    """Without two labelled images there are no figures."""
    h, _ = blobs(0.05)
    with database.transaction() as session:
        found = measure_quality(session, *fill(session, h, ["a", *[None] * 89]), k=5)
    assert found == (1, 1, None, None, None, {})
