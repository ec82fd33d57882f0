"""Which data sets can be probed."""

import pytest

from models.probing import probe_obstacle, transform_obstacle


@pytest.mark.parametrize(
    ("train", "others", "can_be_probed"),
    [
        ([3, 3], {}, True),
        ([3, 3, 1, 0], {}, True),  # small classes beside two that are large enough
        ([3, 2], {}, False),  # one is held out: a single one would be left
        ([2, 2], {"test": [1, 0]}, True),
        ([2, 2], {"val": [0, 1]}, True),
        ([2, 2], {"test": [0, 0]}, False),  # without a label
        ([2, 1], {"test": [5, 5]}, False),
    ],
)
def test_two_classes_need_enough_images(train: list[int], others: dict[str, list[int]], *, can_be_probed: bool) -> None:
    """Two training images each, or three where one is held out; other classes may have any number."""
    splits = {name: {"per_class": per_class} for name, per_class in {"train": train, **others}.items()}
    classes = ["ant", "bee", "cat", "dog"][: len(train)]
    assert (probe_obstacle(classes, splits) is None) == can_be_probed


def test_the_message_names_the_classes() -> None:
    """Each class that falls short with its number of images, five at most, and no other."""
    train = {"per_class": [9, 2, 1, 0, 0, 0, 0]}
    obstacle = probe_obstacle(list("abcdefg"), {"train": train})
    assert obstacle is not None
    assert obstacle.endswith("; 'b' has 2, 'c' has 1, 'd' has 0, 'e' has 0, 'f' has 0, ...")
    assert "'a'" not in obstacle


@pytest.mark.parametrize("classes", [[], ["a"]])
def test_one_class_is_too_few(classes: list[str]) -> None:
    """The message says how many there are."""
    obstacle = probe_obstacle(classes, {"train": {"per_class": [50] * len(classes)}})
    assert obstacle == f"a probe needs at least 2 classes; the data set has {len(classes)}"


def test_a_data_set_without_training_images() -> None:
    """Nothing to learn from: all classes have 0."""
    assert "'a' has 0" in str(probe_obstacle(["a", "b"], {"test": {"per_class": [5, 5]}}))


@pytest.mark.parametrize(
    ("num_images", "can_be_probed"),
    [
        ({"train": 8, "test": 4}, True),
        ({"train": 7, "test": 4}, False),
        ({"train": 8, "test": 3, "val": 4}, True),
        ({"train": 19, "test": 3}, False),  # a fifth of 19 is held out: less than one image of each rotation
        ({"train": 20}, True),
        ({"test": 100}, False),
    ],
)
def test_a_transform_probe_needs_enough_images(num_images: dict[str, int], *, can_be_probed: bool) -> None:
    """Two training images and one test image of each of four rotations, whatever their labels."""
    assert (transform_obstacle(num_images) is None) == can_be_probed
