"""What an archive holds, from one reading of it: each distinct image once, with its split and class."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from trainer.layout import Place, classify
from trainer.pack import SPLITS

NOWHERE = Place("train", None)  # of what is no image; decoding will say so


@dataclass(frozen=True)
class Original:
    """One distinct content: the member that stands for it, and the members that repeat it."""

    name: str
    place: Place
    sha256: bytes
    copies: tuple[str, ...]


@dataclass(frozen=True)
class Rejection:
    """A member that is not in the data set, and why."""

    name: str
    code: str
    detail: str


@dataclass(frozen=True)
class Contents:
    """Everything an archive holds that may become a part of the data set, in the archive's order."""

    originals: dict[str, Original]  # by name
    rejected: list[Rejection]
    num_across_splits: int  # originals that have copies in another split


def looks_like_image(content: bytes) -> bool:
    """Whether the bytes begin like a JPEG, PNG or WebP: a folder of anything else is no class."""
    is_webp = content[:4] == b"RIFF" and content[8:12] == b"WEBP"
    return is_webp or content.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"))


def survey(members: Iterable[tuple[str, bytes]]) -> Contents:
    """Read all members once; equal contents become one original, or rejections if their classes differ."""
    same: dict[bytes, list[str]] = defaultdict(list)
    images = []
    for name, content in members:
        same[hashlib.sha256(content).digest()].append(name)
        if looks_like_image(content):
            images.append(name)
    places = classify(images)
    contents = Contents({}, [], sum(_is_across_splits(names, places) for names in same.values()))
    for sha256, names in same.items():
        if len(_classes(names, places)) > 1:
            contents.rejected.extend(_conflicts(names, places))
        else:
            original = _original(names, places, sha256)
            contents.originals[original.name] = original
    return contents


def _classes(names: list[str], places: dict[str, Place]) -> set[str]:
    return {class_name for name in names if (class_name := places.get(name, NOWHERE).class_name) is not None}


def _is_across_splits(names: list[str], places: dict[str, Place]) -> bool:
    return len({places.get(name, NOWHERE).split for name in names}) > 1


def _original(names: list[str], places: dict[str, Place], sha256: bytes) -> Original:
    """The copy that trains stands for all: a test image that was trained on measures nothing."""
    first, *copies = sorted(names, key=lambda name: SPLITS.index(places.get(name, NOWHERE).split))
    class_name = next(iter(_classes(names, places)), None)
    return Original(first, Place(places.get(first, NOWHERE).split, class_name), sha256, tuple(copies))


def _conflicts(names: list[str], places: dict[str, Place]) -> list[Rejection]:
    listed = ", ".join(f"{name!r} (class {places[name].class_name!r})" for name in names[:4])
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return [
        Rejection(name, "conflicting_classes", f"one image under several classes: {listed}{more}") for name in names
    ]
