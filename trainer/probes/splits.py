"""Which images a probe learns from and which it is scored on.

Legend: N images of a pack, M of them in a split.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.finetuning import label_obstacle, num_labels
from models.probing import (
    HELD_OUT_FRACTION,
    MIN_TRANSFORMED_TEST,
    TEST_SPLITS,
    num_held_out,
    probe_obstacle,
    transform_obstacle,
)
from trainer.pack import NO_LABEL, SPLITS, Pack
from trainer.run import RunError

TestSplit = Literal["test", "val", "held_out"]
TEST_SEED = 0  # not the recipe's: every probe of a data set is scored on the same images


@dataclass(frozen=True)
class ProbeSplits:
    """Positions in the pack."""

    train: NDArray[np.int64]  # (M,)
    test: NDArray[np.int64]
    test_split: TestSplit


def probe_splits(pack: Pack) -> ProbeSplits:
    """The training images and those of `test`; where it has no labels, of `val`, else a stratified fifth of `train`.

    Images without a label are left out. Raises RunError (`too_few_labels`) unless 2 classes have 2 images each to
    learn from.
    """
    _refuse_too_few(pack)
    return _split(pack)


def image_splits(pack: Pack) -> ProbeSplits:
    """As `probe_splits`, whether the images have labels or not: for a probe that makes its own.

    Raises RunError (`too_few_images`) unless there are enough for a transform probe.
    """
    if reason := transform_obstacle({name: len(pack.split(name)) for name in SPLITS}):
        raise RunError("too_few_images", reason)
    train = pack.split("train")
    for name in TEST_SPLITS:
        if len(test := pack.split(name)) >= MIN_TRANSFORMED_TEST:
            return ProbeSplits(train, test, name)
    held_out = stratified(np.zeros(len(train), np.int64), HELD_OUT_FRACTION, seed=TEST_SEED)
    return ProbeSplits(train[~held_out], train[held_out], "held_out")


def _split(pack: Pack) -> ProbeSplits:
    train = _labelled(pack, "train")
    for name in TEST_SPLITS:
        if len(test := _labelled(pack, name)):
            return ProbeSplits(train, test, name)
    held_out = stratified(pack.labels[train], HELD_OUT_FRACTION, seed=TEST_SEED)
    return ProbeSplits(train[~held_out], train[held_out], "held_out")


def _labelled(pack: Pack, split: str) -> NDArray[np.int64]:
    positions = pack.split(split)
    labelled: NDArray[np.int64] = positions[pack.labels[positions] != NO_LABEL]
    return labelled


def stratified(labels: NDArray[np.integer], fraction: float, *, seed: int) -> NDArray[np.bool_]:
    """A random `fraction` of each class, (M,) bool: at least one image of it, but never all; none of a single one."""
    return _part_of_each(labels, lambda number: num_held_out(number, fraction), seed)


def labelled_part(pack: Pack, train: NDArray[np.int64], fraction: float, *, seed: int) -> NDArray[np.int64]:
    """The images of `train`, positions in the pack, that may show their label: a random `fraction` of each class (B.5).

    With the same seed those of a smaller fraction are among those of a larger one. Raises RunError (`too_few_labels`)
    unless each class has one.
    """
    if reason := label_obstacle(pack.classes, _counts(pack), fraction):
        raise RunError("too_few_labels", f"recipe.label_fraction: {reason}")
    part: NDArray[np.int64] = train[_part_of_each(pack.labels[train], lambda n: num_labels(n, fraction), seed)]
    return part


def _part_of_each(labels: NDArray[np.integer], num_of: Callable[[int], int], seed: int) -> NDArray[np.bool_]:
    """The first so many of each class in a random order, (M,) bool; the order is the seed's alone."""
    generator = np.random.default_rng(seed)
    chosen = np.zeros(len(labels), np.bool_)
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        chosen[members[: num_of(len(members))]] = True
    return chosen


def _refuse_too_few(pack: Pack) -> None:
    if reason := probe_obstacle(pack.classes, _counts(pack)):
        raise RunError("too_few_labels", reason)


def _counts(pack: Pack) -> dict[str, dict[str, list[int]]]:
    """The labelled images of each split, class by class."""
    num_classes = len(pack.classes)
    counts = {name: np.bincount(pack.labels[_labelled(pack, name)], minlength=num_classes) for name in SPLITS}
    return {name: {"per_class": per_class.tolist()} for name, per_class in counts.items()}
