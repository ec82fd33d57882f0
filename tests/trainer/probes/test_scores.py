"""Scores against scikit-learn and a plain bootstrap."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, recall_score
from sklearn.metrics import confusion_matrix as sklearn_confusion

from trainer.probes.scores import accuracy, accuracy_per_class, confidence_interval, confusion_matrix

GENERATOR = np.random.default_rng(0)
LABELS = GENERATOR.integers(0, 4, 200)
PREDICTED = np.where(GENERATOR.random(200) < 0.6, LABELS, GENERATOR.integers(0, 5, 200))
CLASSES = ("a", "b", "c", "d", "e")  # e has no images


def test_scores_equal_scikit_learns() -> None:
    """Confusion, accuracy and each class's accuracy (its recall) are scikit-learn's."""
    confusion = confusion_matrix(LABELS, PREDICTED, 5)
    np.testing.assert_array_equal(confusion, sklearn_confusion(LABELS, PREDICTED, labels=range(5)))
    assert accuracy(confusion) == accuracy_score(LABELS, PREDICTED)
    recalls = recall_score(LABELS, PREDICTED, labels=range(4), average=None)
    assert accuracy_per_class(confusion, CLASSES) == pytest.approx(dict(zip(CLASSES, recalls, strict=False)))


def test_the_interval_is_the_bootstraps() -> None:
    """The interval is that of images drawn again with replacement, and depends on its seed alone."""
    confusion = confusion_matrix(LABELS, PREDICTED, 5)
    right = LABELS == PREDICTED
    resampled = right[np.random.default_rng(1).integers(0, 200, (20_000, 200))].mean(axis=1)
    interval = confidence_interval(confusion, seed=0)
    assert interval == pytest.approx(np.quantile(resampled, [0.025, 0.975]), abs=0.0051)  # one image is 0.005
    assert interval == confidence_interval(confusion, seed=0)
