"""The classifier's file and its probabilities."""

from pathlib import Path

import numpy as np
import pytest

from models.classifier import Classifier


def classifier(num_classes: int = 3, size: int = 4) -> Classifier:
    generator = np.random.default_rng(0)
    weight = generator.normal(size=(num_classes, size)).astype(np.float32)
    bias = generator.normal(size=num_classes).astype(np.float32)
    return Classifier(weight, bias, tuple("äbc"[:num_classes]), "g1")


def test_probabilities_are_the_softmax() -> None:
    """Row by row exp(w_k h + b_k) over their sum, in float64."""
    made = classifier()
    h = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)
    for row, probabilities in zip(h, made.probabilities(h), strict=True):
        powers = [
            np.exp(float(w.astype(np.float64) @ row) + float(b)) for w, b in zip(made.weight, made.bias, strict=True)
        ]
        np.testing.assert_allclose(probabilities, np.array(powers) / sum(powers), rtol=1e-5)


def test_large_logits_do_not_overflow() -> None:
    """Of logits of 10,000 the largest has probability 1; of equal ones each has its share."""
    weight = np.array([[1e4], [1e4], [0]], np.float32)
    probabilities = Classifier(weight, np.zeros(3, np.float32), ("a", "b", "c"), "h").probabilities(
        np.ones((1, 1), np.float32)
    )
    np.testing.assert_array_equal(probabilities, [[0.5, 0.5, 0]])


def test_a_file_is_what_was_saved(tmp_path: Path) -> None:
    """Weights bit for bit, names in any script, the layer."""
    made = classifier()
    made.save(tmp_path / "head.npz")
    read = Classifier.load(tmp_path / "head.npz")
    np.testing.assert_array_equal(read.weight, made.weight)
    np.testing.assert_array_equal(read.bias, made.bias)
    assert (read.weight.dtype, read.classes, read.layer) == (np.float32, ("ä", "b", "c"), "g1")


def test_a_pickle_is_not_loaded(tmp_path: Path) -> None:
    """A file that would run code when it is read is refused."""
    objects = np.array([object()], dtype=object)
    np.savez(tmp_path / "head.npz", weight=objects, bias=objects, classes=objects, layer=objects)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        Classifier.load(tmp_path / "head.npz")
