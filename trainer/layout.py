"""Which split and class the images of an archive belong to, decided on all their paths together.

    [wrapper/...]/[train|test|val/][class/...]image

A folder that everything lies in is a wrapper and means nothing, unless it names a split. Splits count only if all
top-level folders are splits; else `train` is a class like `car`. The first folder below is the class.
"""

from collections.abc import Sequence
from dataclasses import dataclass

SPLIT_FOLDERS = {"train": "train", "test": "test", "val": "val", "valid": "val", "validation": "val"}


@dataclass(frozen=True)
class Place:
    """Where an image belongs; no class where it lies beside the class folders or where there are none."""

    split: str
    class_name: str | None


def classify(names: Sequence[str]) -> dict[str, Place]:
    """The place of each image, by its path."""
    folders = {name: name.split("/")[:-1] for name in names}
    depth = _wrapper_depth(list(folders.values()))
    below = {name: parts[depth:] for name, parts in folders.items()}
    tops = {parts[0].casefold() for parts in below.values() if parts}
    has_splits = tops <= SPLIT_FOLDERS.keys()
    return {name: _place(parts, has_splits=has_splits) for name, parts in below.items()}


def _wrapper_depth(folders: list[list[str]]) -> int:
    """How many leading folders all paths share, up to one that names a split."""
    depth = 0
    for level in zip(*folders, strict=False):  # ends where the shortest path does
        if len(set(level)) > 1 or level[0].casefold() in SPLIT_FOLDERS:
            break
        depth += 1
    return depth


def _place(parts: list[str], *, has_splits: bool) -> Place:
    split = "train"
    if has_splits and parts:
        split, parts = SPLIT_FOLDERS[parts[0].casefold()], parts[1:]
    return Place(split, parts[0] if parts else None)
