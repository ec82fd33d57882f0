"""What a linear head makes of test images, in the terms of a job's result, and the head as the file that serves.

Legend: M test images, D size of h, K classes with training images.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from models.classifier import Classifier
from trainer.probes.features import Features
from trainer.probes.logistic import LinearHead
from trainer.probes.scores import accuracy, accuracy_per_class, confidence_interval, confusion_matrix

MIN_CLASSES_TOP5 = 6
MAX_CLASSES_CONFUSION = 100  # a matrix of 1,000 classes would be a million numbers in the job's row


def linear_confusion(head: LinearHead, seen: Tensor, test: Features, num_classes: int) -> NDArray[np.int64]:
    """Counts (num_classes, num_classes) of the test images, by class and by what the head takes them for."""
    predicted = seen[head.logits(test.h).argmax(dim=1)]  # (M,)
    return confusion_matrix(test.labels.cpu().numpy(), predicted.cpu().numpy(), num_classes)


def linear_scores(
    head: LinearHead, seen: Tensor, test: Features, classes: tuple[str, ...], *, seed: int
) -> dict[str, Any]:
    """top1 with its confidence_interval, per_class, classes, confusion and top5, as far as the classes allow these.

    `seen`, (K,), are the classes that the head's rows stand for: positions in `classes`, those of the data set.
    """
    confusion = linear_confusion(head, seen, test, len(classes))
    scores: dict[str, Any] = {
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


def save_head(path: Path, head: LinearHead, seen: Tensor, classes: Sequence[str], layer: str) -> None:
    """Write the head as POST /v1/classify reads it."""
    names = tuple(classes[i] for i in seen.tolist())
    Classifier(head.weight.cpu().numpy(), head.bias.cpu().numpy(), names, layer).save(path)
