"""What a model must compute before it serves."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.canary import WARM_BATCHES, CanaryFailed, check


class Fake:
    """In place of a model: h is the means of an image's channels, changed by `spoil` a batch at a time."""

    preprocessing = SimpleNamespace(image_size=8)

    def __init__(self, spoil: Any) -> None:
        self.layers = {"h": 3}
        self.sizes: list[int] = []
        self.spoil = spoil

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.sizes.append(len(images))
        spoiled: NDArray[np.float32] = self.spoil(images.mean(axis=(1, 2), dtype=np.float32))
        return spoiled


def tried(spoil: Any) -> Fake:
    fake = Fake(spoil)
    assert check(fake) > 0  # type: ignore[arg-type]  # a stand-in
    return fake


def test_a_sound_model_passes_and_is_warm() -> None:
    """It has run every usual batch size."""
    assert sorted(tried(lambda h: h).sizes) == sorted(WARM_BATCHES)


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
