"""What a data set needs for a probe: asked of its counts before a job is queued, of its images by the job itself."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

TEST_SPLITS: tuple[Literal["test", "val"], ...] = ("test", "val")  # the first with labelled images scores the probe
MIN_CLASSES = 2
MIN_IMAGES = 2  # of a class: one to fit on, one to pick l2 with
MIN_TRANSFORMED = 8  # training images of a transform probe: two of each of four rotations
MIN_TRANSFORMED_TEST = 4
HELD_OUT_FRACTION = 0.2  # of the training images, to score a probe where no other split can
NUM_NAMED = 5  # classes that a message lists


def num_held_out(number: int, fraction: float) -> int:
    """How many of a class's images are held out for a fraction of them: at least one, but never all."""
    return min(max(1, round(fraction * number)), number - 1)


def training_counts(classes: Sequence[str], splits: Mapping[str, Mapping[str, Any]]) -> list[int]:
    """The labelled images of each class that are left to learn from, where none but `train` has any to score on too.

    `splits` are as for `probe_obstacle`.
    """
    train = _train(classes, splits)
    if not _is_held_out(splits):
        return train
    return [number and number - num_held_out(number, HELD_OUT_FRACTION) for number in train]


def probe_obstacle(classes: Sequence[str], splits: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Why no probe can learn from a data set, or None if one can: two classes need enough training images each.

    `splits` are its labelled images: {"train": {"per_class": [50, 50]}, "test": ...}, in the order of `classes`. Where
    none but `train` has any, one image more is needed: a fifth of each class is held out. Smaller classes beside two
    that are large enough do no harm.
    """
    if len(classes) < MIN_CLASSES:
        return f"a probe needs at least {MIN_CLASSES} classes; the data set has {len(classes)}"
    train, is_held_out = _train(classes, splits), _is_held_out(splits)
    least = MIN_IMAGES + is_held_out
    if sum(number >= least for number in train) >= MIN_CLASSES:
        return None
    small = [f"{name!r} has {number}" for name, number in zip(classes, train, strict=True) if number < least]
    named = ", ".join(small[:NUM_NAMED]) + (", ..." if len(small) > NUM_NAMED else "")
    held_out = ", of which one is held out as there is no test set" if is_held_out else ""
    return f"a probe needs {MIN_CLASSES} classes with at least {least} labelled training images each{held_out}; {named}"


def knn_obstacle(classes: Sequence[str], per_class: Sequence[int]) -> str | None:
    """Why no kNN probe can be made of `per_class` labelled training images alone, or None."""
    if sum(number >= MIN_IMAGES for number in per_class) >= MIN_CLASSES:
        return None
    return (
        f"knn_every_epochs needs {MIN_CLASSES} classes with at least {MIN_IMAGES} labelled training images each; the"
        f" data set has {sum(number >= MIN_IMAGES for number in per_class)} of {len(classes)}"
    )


def _train(classes: Sequence[str], splits: Mapping[str, Mapping[str, Any]]) -> list[int]:
    per_class: list[int] = splits.get("train", {}).get("per_class", [0] * len(classes))
    return per_class


def _is_held_out(splits: Mapping[str, Mapping[str, Any]]) -> bool:
    return not any(sum(splits[name]["per_class"]) for name in TEST_SPLITS if name in splits)


def transform_obstacle(num_images: Mapping[str, int]) -> str | None:
    """Why no transform probe can be made of a data set, or None: it needs enough images, with labels or without.

    `num_images` are those of each split. Where none but `train` has enough to score it, a fifth of `train` is held out.
    """
    is_held_out = all(num_images.get(name, 0) < MIN_TRANSFORMED_TEST for name in TEST_SPLITS)
    least = round(MIN_TRANSFORMED_TEST / HELD_OUT_FRACTION) if is_held_out else MIN_TRANSFORMED
    if (number := num_images.get("train", 0)) >= least:
        return None
    held_out = ", of which a fifth is held out as there is no test set" if is_held_out else ""
    return f"a transform probe needs at least {least} training images{held_out}; the data set has {number}"
