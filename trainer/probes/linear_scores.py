"""What a linear head makes of test images, in the terms of a job's result, and the head as the file that serves.

Legend: M test images, D size of h, K classes with training images.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from models.classifier import Classifier
from trainer.probes.features import Features
from trainer.probes.logistic import LinearHead
from trainer.probes.scores import accuracy, accuracy_per_class, confidence_interval, confusion_matrix
from trainer.probes.splits import TestSplit

MIN_CLASSES_TOP5 = 6
MAX_CLASSES_CONFUSION = 100  # a matrix of 1,000 classes would be a million numbers in the job's row


@dataclass(frozen=True)
class Fitted:
    """A linear head, and the test images that it is scored on."""

    head: LinearHead
    seen: Tensor  # (K,) int64, what its rows stand for: positions in `classes`
    classes: tuple[str, ...]  # all of the data set's
    test: Features
    test_split: TestSplit
    about: dict[str, Any]  # how it was fitted, for the job's result


def linear_confusion(head: LinearHead, seen: Tensor, test: Features, num_classes: int) -> NDArray[np.int64]:
    """Counts (num_classes, num_classes) of the test images, by class and by what the head takes them for."""
    predicted = seen[head.logits(test.h).argmax(dim=1)]  # (M,)
    return confusion_matrix(test.labels.cpu().numpy(), predicted.cpu().numpy(), num_classes)


def linear_scores(fitted: Fitted, *, seed: int) -> dict[str, Any]:
    """num_test, test_split, top1 with its confidence_interval, classes, per_class {class: accuracy}, confusion, top5.

    Rows of `confusion` are the true classes in the order of `classes`; it is there with 100 classes or fewer, top5 with
    6 that have training images or more.
    """
    head, seen, test, classes = fitted.head, fitted.seen, fitted.test, fitted.classes
    confusion = linear_confusion(head, seen, test, len(classes))
    scores: dict[str, Any] = {
        "num_test": len(test),
        "test_split": fitted.test_split,
        "top1": accuracy(confusion),
        "confidence_interval": confidence_interval(confusion, seed=seed),
        "classes": list(classes),
        "per_class": accuracy_per_class(confusion, classes),
    }
    if len(classes) <= MAX_CLASSES_CONFUSION:
        scores["confusion"] = confusion.tolist()
    if len(seen) >= MIN_CLASSES_TOP5:
        top5 = seen[head.logits(test.h).topk(5).indices]  # (M, 5)
        scores["top5"] = float((top5 == test.labels[:, None]).any(dim=1).double().mean())
    return scores


def save_head(fitted: Fitted, layer: str, path: Path) -> None:
    """Write the head as the file that serves."""
    names = tuple(fitted.classes[i] for i in fitted.seen.tolist())
    Classifier(fitted.head.weight.cpu().numpy(), fitted.head.bias.cpu().numpy(), names, layer).save(path)
