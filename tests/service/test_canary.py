"""What a model must compute before it serves."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.canary import WARM_BATCHES, WARM_LANE_BATCHES, CanaryFailed, check


class Fake:
    """In place of a model: h is the means of an image's channels, changed by `spoil` a batch at a time."""

    preprocessing = SimpleNamespace(image_size=8)

    def __init__(self, spoil: Any, *, has_lanes: bool, spoils_lanes: bool) -> None:
        self.layers = {"h": 3}
        self.has_lanes = has_lanes
        self.sizes: list[tuple[bool, int]] = []
        self.spoil = spoil
        self.spoils_lanes = spoils_lanes

    def embed(self, images: NDArray[np.uint8], *, in_lane: bool) -> NDArray[np.float32]:
        self.sizes.append((in_lane, len(images)))
        h: NDArray[np.float32] = images.mean(axis=(1, 2), dtype=np.float32)
        return self.spoil(h) if in_lane or not self.spoils_lanes else h


def tried(spoil: Any, *, has_lanes: bool = False, spoils_lanes: bool = False) -> Fake:
    fake = Fake(spoil, has_lanes=has_lanes, spoils_lanes=spoils_lanes)
    assert check(fake) > 0  # type: ignore[arg-type]  # a stand-in
    return fake


def test_a_sound_model_passes_and_is_warm() -> None:
    """It has run every usual batch size, in lanes too if it has them."""
    assert sorted(tried(lambda h: h).sizes) == [(False, size) for size in WARM_BATCHES]
    lanes = [(True, size) for size in WARM_LANE_BATCHES]
    assert sorted(tried(lambda h: h, has_lanes=True).sizes) == [*((False, size) for size in WARM_BATCHES), *lanes]


def test_a_lane_must_compute_the_same() -> None:
    """What is sound on all cores and not in a lane doesn't serve."""
    tried(lambda h: h[::-1], spoils_lanes=True)
    with pytest.raises(CanaryFailed, match="changes with its batch"):
        tried(lambda h: h[::-1], has_lanes=True, spoils_lanes=True)


def test_a_dead_layer_passes() -> None:
    """Zeros are what they are, in every batch."""
    tried(lambda h: 0 * h)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda h: np.where(h == h.max(), np.nan, h), "not finite"),
        (lambda h: np.where(h == h.max(), np.inf, h), "not finite"),
        (lambda h: h[:, :2], r"\(16, 3\) expected, not \(16, 2\)"),
        (lambda h: h[:1], r"\(16, 3\) expected, not \(1, 3\)"),
        (lambda h: h - h.mean(axis=0), "changes with its batch"),  # batch norm left in training mode
        (lambda h: h[::-1], "changes with its batch"),
        (lambda h: h * (len(h) > 1), "changes with its batch"),
    ],
)
def test_what_is_wrong_is_said(spoil: Any, message: str) -> None:
    """Infinities, wrong sizes, and vectors that depend on their company are each refused for what they are."""
    with pytest.raises(CanaryFailed, match=message):
        tried(spoil)
