"""The map of a collection, against NumPy's singular value decomposition."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from service.core import exact_search, projection, vectors
from service.core.db import Database
from service.core.members import Members, members_of
from service.core.projection import principal_axes, project
from service.core.tables import EmbeddingTable
from tests.service.core.stored_images import add_images, image_ids, model_of_size

IDS = image_ids(120)


def stretched(number: int, size: int) -> NDArray[np.float32]:
    """Vectors with two axes along which they vary most, of different lengths."""
    draw = np.random.default_rng(0)
    spread = draw.standard_normal((number, size)) * [3, 2, *[0.3] * (size - 2)] + 4
    return (spread * draw.uniform(0.5, 2, (number, 1))).astype(np.float32)


def expected_points(h: NDArray[np.float32]) -> NDArray[np.float64]:
    """The first two principal components of the directions, each axis with its largest value positive."""
    units = h.astype(np.float64) / np.linalg.norm(h.astype(np.float64), axis=1, keepdims=True)
    centred = units - units.mean(axis=0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:2]
    points = [centred @ (axis * np.sign(axis[np.abs(axis).argmax()])) for axis in axes]
    return np.stack(points, axis=1)


def fill(session: Session, h: NDArray[np.float32]) -> tuple[EmbeddingTable, Members]:
    collection = add_images(session, IDS)
    table = vectors.ensure_table(session, model_of_size(session, h.shape[1]), "h")
    vectors.insert_vectors(session, table, IDS, h)
    return table, members_of(collection)


def test_points_are_principal_components(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """In order of id, with settled signs, also where the vectors come in several blocks; zeros are left out."""
    monkeypatch.setattr(exact_search, "BLOCK_VALUES", 16 * 50)
    h = stretched(120, 16)
    h[7] = 0
    order = [i for i in np.argsort(IDS) if i != 7]
    with database.transaction() as session:
        table, members = fill(session, h)
        found = project(session, table, members)
    assert found.image_ids == [IDS[i] for i in order]
    np.testing.assert_allclose(found.points, expected_points(h[order]), atol=1e-4)


def test_a_large_collection_is_a_sample(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more points than there may be, fitted to no more vectors than fit into memory: the first by id."""
    monkeypatch.setattr(projection, "FIT_VALUES", 16 * 60)
    h = stretched(120, 16)
    order = np.argsort(IDS)
    with database.transaction() as session:
        table, members = fill(session, h)
        found = project(session, table, members, at_most=90)
    assert found.image_ids == [IDS[i] for i in order[:90]]
    np.testing.assert_allclose(found.points[:60], expected_points(h[order[:60]]), atol=1e-4)


def test_what_has_no_extent(database: Database) -> None:
    """Equal vectors lie on one point, vectors on a line have no second coordinate, and nothing has no points."""
    with database.transaction() as session:
        table, members = fill(session, np.ones((120, 4), np.float32))
        np.testing.assert_allclose(project(session, table, members).points, 0, atol=1e-6)
        nobody = members_of("none")
        assert project(session, table, nobody).points.shape == (0, 2)
    line = np.outer(np.arange(10), [0, 3, 4]).astype(np.float32)
    mean, axes = principal_axes(line)
    points = (line - mean) @ axes
    np.testing.assert_allclose(points[:, 0], 5 * (np.arange(10) - 4.5), atol=1e-4)
    np.testing.assert_allclose(points[:, 1], 0, atol=1e-4)


def test_an_axis_has_its_largest_value_positive() -> None:
    """So a map isn't mirrored when the collection grows."""
    for seed in range(8):
        _, axes = principal_axes(np.random.default_rng(seed).standard_normal((50, 6)).astype(np.float32))
        assert (axes[np.abs(axes).argmax(axis=0), [0, 1]] > 0).all()
