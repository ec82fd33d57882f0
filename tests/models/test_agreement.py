"""Agreement of vectors, by hand."""

import numpy as np
import pytest

from models.agreement import agreement, nearest, row_cosines


def test_cosines_are_those_of_the_angles() -> None:
    """Vectors at 0, 60 and 180 degrees have cosines 1, 1/2 and -1, whatever their lengths."""
    expected = np.array([[1, 0], [2, 0], [3, 0]], np.float32)
    vectors = np.array([[5, 0], [1, 3**0.5], [-1, 0]], np.float32)
    np.testing.assert_allclose(row_cosines(vectors, expected), [1, 0.5, -1], atol=1e-7)


def test_zeros_agree_with_zeros_alone() -> None:
    """Of two zero vectors the cosine is 1, of one it is 0."""
    zero, one = np.zeros((1, 2), np.float32), np.ones((1, 2), np.float32)
    assert row_cosines(zero, zero) == 1
    assert row_cosines(zero, one) == 0


def test_least_and_mean_over_the_images() -> None:
    """A layer's figures are the least and the mean of its rows' cosines; what isn't finite has none."""
    h = np.eye(3, dtype=np.float32)
    turned = np.array([[1, 0, 0], [0, 1, 0], [0, 3**0.5, 1]], np.float32)  # the last by 60 degrees
    infinite = np.where(h > 0, np.inf, h).astype(np.float32)
    figures = agreement({"h": turned, "z": infinite}, {"h": h, "z": h})["cosine"]
    assert figures["h"] == {"min": pytest.approx(0.5), "mean": pytest.approx(2.5 / 3)}
    assert figures["z"] == {"min": None, "mean": None}


def test_neighbours_are_counted_without_the_image_itself() -> None:
    """Points on a circle: the nearest of each is the one at the smaller angle, itself left out."""
    angles = np.radians([0, 10, 30, 70])
    h = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    assert nearest(h, 3).tolist() == [[1, 2, 3], [0, 2, 3], [1, 0, 3], [2, 1, 0]]


def test_agreement_of_neighbours_is_their_share() -> None:
    """Of twelve points on a circle, one that moves to the other side changes its own nearest and its neighbours'."""
    angles = np.radians([0, 3, 7, 12, 18, 25, 33, 42, 52, 63, 75, 88])
    moved = angles.copy()
    moved[0] = np.radians(200)

    def circle(angles: np.ndarray) -> np.ndarray:
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)

    same = agreement({"h": 7 * circle(angles)}, {"h": circle(angles)})
    assert (same["knn_agreement"], same["knn_overlap"]) == (1, 1)
    other = agreement({"h": circle(moved)}, {"h": circle(angles)})
    assert other["knn_agreement"] == pytest.approx(10 / 12)  # 0's nearest was 1 and is 11; 1's was 0 and is 2
    before, after = (nearest(circle(a), 10) for a in (angles, moved))
    shares = [len(set(x) & set(y)) / 10 for x, y in zip(before, after, strict=True)]
    assert other["knn_overlap"] == pytest.approx(np.mean(shares))
    assert other["knn_overlap"] < 1


def test_two_images_say_nothing_of_neighbours() -> None:
    """Each is the other's nearest in any case, so there is no figure."""
    h = np.eye(2, dtype=np.float32)
    assert agreement({"h": h}, {"h": h})["knn_agreement"] is None
