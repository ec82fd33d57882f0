"""Which labelled images a probe learns from and which it is scored on.

Legend: N images of a pack, M of them in a split.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from trainer.pack import NO_LABEL, Pack
from trainer.run import RunError

TEST_FRACTION = 0.2
TEST_SEED = 0  # not the recipe's: every probe of a data set is scored on the same images
MIN_CLASSES = 2
MIN_IMAGES = 2  # a class: one to fit on, one to pick l2 with
NUM_NAMED = 5  # classes that a message lists


@dataclass(frozen=True)
class ProbeSplits:
    """Positions in the pack of the labelled images; labels are positions in its classes."""

    train: NDArray[np.int64]  # (M,)
    test: NDArray[np.int64]
    test_split: Literal["test", "held_out"]


def probe_splits(pack: Pack) -> ProbeSplits:
    """The training and the test images; without a labelled `test` split, a stratified fifth of `train` is held out.

    Images without a label are left out. Raises RunError (`too_few_labels`) unless 2 classes have 2 images each to
    learn from.
    """
    train, test = (positions[pack.labels[positions] != NO_LABEL] for positions in map(pack.split, ("train", "test")))
    if len(test):
        splits = ProbeSplits(train, test, "test")
    else:
        held_out = stratified(pack.labels[train], TEST_FRACTION, seed=TEST_SEED)
        splits = ProbeSplits(train[~held_out], train[held_out], "held_out")
    _refuse_too_few(pack, splits)
    return splits


def stratified(labels: NDArray[np.integer], fraction: float, *, seed: int) -> NDArray[np.bool_]:
    """A random `fraction` of each class, (M,) bool: at least one image of it, but never all; none of a single one."""
    generator = np.random.default_rng(seed)
    chosen = np.zeros(len(labels), np.bool_)
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        num_chosen = min(max(1, round(fraction * len(members))), len(members) - 1)
        chosen[members[:num_chosen]] = True
    return chosen


def _refuse_too_few(pack: Pack, splits: ProbeSplits) -> None:
    counts = np.bincount(pack.labels[splits.train], minlength=len(pack.classes))
    if (counts >= MIN_IMAGES).sum() >= MIN_CLASSES:
        return
    short = [f"{name!r} has {n}" for name, n in zip(pack.classes, counts, strict=True) if n < MIN_IMAGES]
    found = ", ".join(short[:NUM_NAMED]) or f"the data set has {len(pack.classes)} classes"
    held_out = ", besides those held out as the test set" if splits.test_split == "held_out" else ""
    raise RunError(
        "too_few_labels",
        f"a probe needs {MIN_CLASSES} classes with at least {MIN_IMAGES} labelled training images each{held_out};"
        f" {found}",
    )
