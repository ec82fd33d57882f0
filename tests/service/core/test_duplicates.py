"""Groups of near-duplicates, against SciPy's connected components."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components
from sqlalchemy.orm import Session

from service.core import duplicates, vectors
from service.core.db import Database
from service.core.duplicates import duplicate_groups
from service.core.errors import Invalid
from service.core.filters import Equals
from service.core.tables import CollectionImage, EmbeddingTable
from tests.service.core.stored_images import add_images, image_ids, model_of_size

NUMBER, SIZE, THRESHOLD = 300, 12, 0.97


def copies(seed: int) -> NDArray[np.float32]:
    """Vectors of which many are nearly others, of any length, some in chains, and two without direction."""
    draw = np.random.default_rng(seed)
    h = draw.standard_normal((NUMBER, SIZE))
    for i in range(1, NUMBER):
        if draw.random() < 0.4:
            h[i] = h[draw.integers(0, i)] + 0.1 * draw.standard_normal(SIZE)
    h *= draw.uniform(0.1, 10, (NUMBER, 1))
    h[[5, 6]] = 0
    return h.astype(np.float32)


def expected_groups(ids: list[str], h: NDArray[np.float32], threshold: float) -> list[list[str]]:
    """By SciPy, from all cosines in float64."""
    lengths = np.linalg.norm(h.astype(np.float64), axis=1, keepdims=True)
    unit = np.divide(h, lengths, out=np.zeros(h.shape), where=lengths > 0)
    _, numbers = connected_components(unit @ unit.T >= threshold, directed=False)
    groups: dict[int, list[str]] = {}
    for id_, number in sorted(zip(ids, numbers.tolist(), strict=True)):
        groups.setdefault(number, []).append(id_)
    return [group for group in groups.values() if len(group) > 1]


def fill(session: Session, ids: list[str], h: NDArray[np.float32]) -> tuple[EmbeddingTable, str]:
    collection = add_images(session, ids)
    table = vectors.ensure_table(session, model_of_size(session, SIZE), "h")
    vectors.insert_vectors(session, table, ids, h)
    return table, collection


def all_pages(session: Session, table: EmbeddingTable, collection: str, limit: int) -> tuple[list[list[str]], int]:
    """All groups, and on how many pages they are."""
    groups: list[list[str]] = []
    after, num_pages = "", 0
    while True:
        page = duplicate_groups(session, table, collection, threshold=THRESHOLD, after=after, limit=limit)
        groups += page.groups
        num_pages += 1
        if page.next is None:
            return groups, num_pages
        after = page.next


@pytest.mark.parametrize(("scan", "limit"), [(2048, 1000), (2048, 7), (40, 1000), (40, 3)])
def test_groups_are_connected_components(
    database: Database, monkeypatch: pytest.MonkeyPatch, scan: int, limit: int
) -> None:
    """Each group is on one page, whole, however small the pages and the blocks are."""
    monkeypatch.setattr(duplicates, "SCAN_IMAGES", scan)
    monkeypatch.setattr(duplicates, "CHUNK_VALUES", 64 * SIZE)
    ids, h = image_ids(NUMBER), copies(0)
    expected = expected_groups(ids, h, THRESHOLD)
    assert max(map(len, expected)) > 3
    with database.transaction() as session:
        table, collection = fill(session, ids, h)
        found, num_pages = all_pages(session, table, collection, limit)
    assert found == expected
    assert num_pages >= max(NUMBER // scan, len(expected) // limit)


def test_a_filter_cuts_chains(database: Database) -> None:
    """What it doesn't hold for links nothing."""
    ids, h = image_ids(NUMBER), copies(0)
    with database.transaction() as session:
        table, collection = fill(session, ids, h)
        for id_ in ids[::2]:
            session.get_one(CollectionImage, (collection, id_)).label = "even"
        session.flush()
        condition = Equals(op="equals", field="label", value="even")
        page = duplicate_groups(session, table, collection, threshold=THRESHOLD, condition=condition, limit=1000)
    assert page.groups == expected_groups(ids[::2], h[::2], THRESHOLD)


def test_by_the_index(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a large collection the index tells the links; here it finds them all."""
    monkeypatch.setattr(duplicates, "EXACT_LIMIT", 100)
    ids, h = image_ids(NUMBER), copies(1)
    with database.transaction() as session:
        table, collection = fill(session, ids, h)
    vectors.build_index(database.engine, table)
    with database.transaction() as session:
        found, _ = all_pages(session, table, collection, 1000)
    assert found == expected_groups(ids, h, THRESHOLD)


def test_a_threshold_that_links_all_is_refused(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of links is bounded, and the error says what to give."""
    monkeypatch.setattr(duplicates, "MAX_LINKS", NUMBER)
    with database.transaction() as session:
        table, collection = fill(session, image_ids(NUMBER), copies(0))
        with pytest.raises(Invalid, match=r"at least as similar as 0\.1"):
            duplicate_groups(session, table, collection, threshold=0.1, limit=10)
