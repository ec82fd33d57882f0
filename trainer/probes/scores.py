"""What a probe's predictions are worth.

Legend: M test images, K classes of the data set.
"""

import numpy as np
from numpy.typing import NDArray

NUM_RESAMPLES = 10_000


def confusion_matrix(labels: NDArray[np.int64], predicted: NDArray[np.int64], num_classes: int) -> NDArray[np.int64]:
    """Counts (K, K) of labels (M,), the rows, predicted as (M,), the columns."""
    pairs = np.bincount(labels * num_classes + predicted, minlength=num_classes**2)
    return pairs.reshape(num_classes, num_classes)


def accuracy(confusion: NDArray[np.int64]) -> float:
    """The share of images predicted as their class."""
    return float(confusion.trace() / confusion.sum())


def accuracy_per_class(confusion: NDArray[np.int64], classes: tuple[str, ...]) -> dict[str, float]:
    """The same class by class, for the classes that have test images."""
    counts = confusion.sum(axis=1)
    return {name: float(confusion[i, i] / counts[i]) for i, name in enumerate(classes) if counts[i]}


def confidence_interval(confusion: NDArray[np.int64], *, seed: int) -> list[float]:
    """The bootstrap's 95% interval of the accuracy, [low, high].

    To draw M of M right or wrong answers with replacement is to draw from a binomial distribution.
    """
    num_images = int(confusion.sum())
    draws = np.random.default_rng(seed).binomial(num_images, accuracy(confusion), NUM_RESAMPLES) / num_images
    return [float(bound) for bound in np.quantile(draws, (0.025, 0.975))]
