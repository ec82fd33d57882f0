"""What fine-tuning is told by default, and which data sets have enough labels for it."""

from typing import Any

import pytest
from pydantic import ValidationError

from models.finetuning import FinetuneRecipe, label_obstacle


@pytest.mark.parametrize(("fraction", "epochs"), [(0.01, 60), (0.005, 60), (0.1, 30), (1.0, 30)])
def test_few_labels_take_more_epochs(fraction: float, epochs: int) -> None:
    """60 epochs for 1% of the labels, 30 for 10% (B.5); given ones count."""
    assert FinetuneRecipe(label_fraction=fraction).epochs == epochs
    assert FinetuneRecipe(label_fraction=fraction, epochs=7).epochs == 7


@pytest.mark.parametrize("fraction", [0, -0.1, 1.1, "many"])
def test_a_fraction_is_above_0_and_at_most_1(fraction: Any) -> None:
    """Anything else is refused by its name alone: the default of the epochs doesn't matter then."""
    with pytest.raises(ValidationError) as failure:
        FinetuneRecipe.model_validate({"label_fraction": fraction})
    assert failure.value.errors()[0]["loc"] == ("label_fraction",)


@pytest.mark.parametrize(
    ("train", "others", "fraction", "can_be_tuned"),
    [
        ([100, 60], {"test": [1, 1]}, 0.01, True),
        ([100, 50], {"test": [1, 1]}, 0.01, False),  # half an image is none
        ([100, 0], {"test": [1, 1]}, 0.01, True),  # a class without images is none to learn
        ([100, 74], {}, 0.01, True),  # 15 of them are held out, 59 are left
        ([100, 62], {}, 0.01, False),  # 12 are held out, 50 are left
        ([1, 3], {"test": [1, 1]}, 1.0, True),
        ([1, 3], {}, 1.0, True),
    ],
)
def test_each_class_needs_a_label(
    train: list[int], others: dict[str, list[int]], fraction: float, *, can_be_tuned: bool
) -> None:
    """At least one image of every class that has training images is left after some are held out."""
    splits = {name: {"per_class": per_class} for name, per_class in {"train": train, **others}.items()}
    assert (label_obstacle(["ant", "bee"], splits, fraction) is None) == can_be_tuned


def test_the_message_says_which_fraction_is_enough() -> None:
    """The least one, and the classes that are too small for the one that was asked for."""
    splits = {"train": {"per_class": [100, 40, 20]}, "test": {"per_class": [1, 1, 1]}}
    message = label_obstacle(["ant", "bee", "cat"], splits, 0.01)
    assert message is not None
    assert message.startswith("more than 0.025, for an image of each class, not 0.01;")
    assert message.endswith("'bee' has 40, 'cat' has 20")
    assert label_obstacle(["ant", "bee", "cat"], splits, 0.0251) is None
