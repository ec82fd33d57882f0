from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.layout import Place, classify

TABLE: dict[str, dict[str, tuple[str, str | None]]] = {
    "splits and classes": {"train/cat/1": ("train", "cat"), "test/cat/2": ("test", "cat"), "val/dog/3": ("val", "dog")},
    "classes alone": {"cat/1": ("train", "cat"), "dog/2": ("train", "dog")},
    "images alone": {"1": ("train", None), "2": ("train", None)},
    "one folder is a wrapper": {"photos/1": ("train", None), "photos/2": ("train", None)},
    "wrapper over classes": {"data/cat/1": ("train", "cat"), "data/dog/2": ("train", "dog")},
    "wrapper over splits": {"data/train/cat/1": ("train", "cat"), "data/test/dog/2": ("test", "dog")},
    "two wrappers": {"a/b/train/cat/1": ("train", "cat"), "a/b/val/cat/2": ("val", "cat")},
    "other spellings": {"valid/cat/1": ("val", "cat"), "Train/cat/2": ("train", "cat"), "validation/3": ("val", None)},
    "a split is no wrapper": {"test/cat/1": ("test", "cat"), "test/dog/2": ("test", "dog")},
    "a split of one class": {"test/cat/1": ("test", "cat"), "test/cat/2": ("test", "cat")},
    "splits without classes": {"train/1": ("train", None), "test/2": ("test", None)},
    "beside the classes": {"cat/1": ("train", "cat"), "dog/2": ("train", "dog"), "3": ("train", None)},
    "beside the classes of a split": {"test/a/1": ("test", "a"), "test/b/2": ("test", "b"), "test/3": ("test", None)},
    "beside the splits": {"train/cat/1": ("train", "cat"), "test/cat/2": ("test", "cat"), "3": ("train", None)},
    "below the class": {"cat/tabby/1": ("train", "cat"), "dog/2": ("train", "dog")},
    "a vehicle is no split": {"train/1": ("train", "train"), "car/2": ("train", "car")},
}  # fmt: skip


@pytest.mark.parametrize("table", TABLE.values(), ids=TABLE)
def test_layouts(table: dict[str, tuple[str, str | None]]) -> None:
    """Split and class of every image follow from all paths together."""
    assert classify(list(table)) == {name: Place(*place) for name, place in table.items()}


PARTS = st.lists(st.sampled_from(["a", "b", "train", "test", "val"]), max_size=4)
PATHS = st.lists(PARTS, min_size=1, max_size=8, unique_by=tuple)


@given(PATHS, st.sampled_from(["data", "a", "b"]))
def test_a_wrapper_changes_nothing(paths: list[list[str]], wrapper: str) -> None:
    """Putting everything into one more folder gives every image the same split and class."""
    names = ["/".join([*parts, f"{i}.png"]) for i, parts in enumerate(paths)]
    wrapped = classify([f"{wrapper}/{name}" for name in names])
    assert list(wrapped.values()) == list(classify(names).values())


@given(PATHS, st.randoms())
def test_order_changes_nothing(paths: list[list[str]], random: Random) -> None:
    """The order of an archive's members has no say in their places."""
    names = ["/".join([*parts, f"{i}.png"]) for i, parts in enumerate(paths)]
    assert classify(random.sample(names, len(names))) == classify(names)
