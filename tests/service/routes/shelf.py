"""What images, collections and aliases are to do, in plain Python: dicts in the place of tables."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tests.service.core.test_members import holds
from tests.service.routes.gallery import id_of, picture, pixels_h

PICTURES = [picture(i) for i in range(8)]
IDS = [id_of(content) for content in PICTURES]
UNIT = {id_: pixels_h(content) / np.linalg.norm(pixels_h(content)) for id_, content in zip(IDS, PICTURES, strict=True)}
PRODUCTION = "production"


@dataclass(frozen=True)
class Member:
    """What a collection says of an image."""

    label: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    filename: str | None = None


@dataclass
class Shelf:
    """All that one tenant has."""

    vectors: dict[str, set[str]]  # by model: the images that it has embedded
    collections: dict[str, dict[str, Member]] = field(default_factory=dict)  # by name, then by image
    changes: dict[str, list[tuple[str | None, str]]] = field(default_factory=dict)  # by alias, oldest first

    @property
    def images(self) -> set[str]:
        """The images that are in any collection: there are no others."""
        return {id_ for members in self.collections.values() for id_ in members}

    def serving(self, alias: str = PRODUCTION) -> str | None:
        """The model that an alias serves."""
        return self.changes[alias][-1][1] if alias in self.changes else None

    def upload(
        self, name: str, files: Sequence[tuple[str, str | None, str]], metadata: Mapping[str, Any]
    ) -> list[tuple[str, str, str | None]]:
        """What an upload of (id, label, filename) answers: (status, id, label) of each."""
        members, before = self.collections.setdefault(name, {}), set(self.collections.get(name, {}))
        firsts: dict[str, tuple[str | None, str]] = {}
        for id_, label, filename in files:
            firsts.setdefault(id_, (label, filename))
        for id_, (label, filename) in firsts.items():
            old = members.get(id_, Member())
            members[id_] = Member(label or old.label, {**old.metadata, **metadata}, filename)
            if model := self.serving():
                self.vectors[model].add(id_)
        seen = Counter[str]()
        answers = []
        for id_, _, _ in files:
            is_new = id_ not in before and not seen[id_]
            answers.append(("created" if is_new else "exists", id_, members[id_].label))
            seen[id_] += 1
        return answers

    def put(self, name: str, id_: str, label: str | None, metadata: Mapping[str, Any]) -> None:
        """PUT an image in a collection; what it is called there stays."""
        members = self.collections.setdefault(name, {})
        members[id_] = Member(label, metadata, members.get(id_, Member()).filename)

    def remove(self, name: str, ids: Sequence[str]) -> None:
        """Take images out of a collection."""
        for id_ in ids:
            del self.collections[name][id_]
        self._forget_vectors()

    def delete_image(self, id_: str) -> None:
        """Take an image out of all collections."""
        for members in self.collections.values():
            members.pop(id_, None)
        self._forget_vectors()

    def delete_collection(self, name: str) -> None:
        """Delete a collection."""
        del self.collections[name]
        self._forget_vectors()

    def _forget_vectors(self) -> None:
        for embedded in self.vectors.values():
            embedded.intersection_update(self.images)

    def change(self, name: str, id_: str, change: Mapping[str, Any]) -> None:
        """PATCH an image in a collection."""
        old = self.collections[name][id_]
        kept = {key: value for key, value in old.metadata.items() if key not in change.get("unset", ())}
        new = replace(old, label=change.get("label", old.label), metadata={**kept, **change.get("metadata", {})})
        self.collections[name][id_] = new

    def matching(self, name: str, condition: dict[str, Any] | None) -> list[str]:
        """The images of a collection that a filter holds for, in order of id."""
        members = self.collections[name].items()
        return sorted(id_ for id_, m in members if condition is None or holds(condition, m.label, m.metadata))

    def nearest(self, query: str, name: str, condition: dict[str, Any] | None, model: str) -> dict[str, float]:
        """The cosines of the images of a collection that may answer a search by a stored image, best first."""
        ids = [id_ for id_ in self.matching(name, condition) if id_ in self.vectors[model] and id_ != query]
        scores = {id_: float(UNIT[query] @ UNIT[id_]) for id_ in ids}
        return dict(sorted(scores.items(), key=lambda item: -item[1]))

    def point(self, alias: str, model: str) -> str | None:
        """Have an alias serve a model; the one before."""
        before = self.serving(alias)
        if before != model:
            self.changes.setdefault(alias, []).append((before, model))
        return before


Reset = Callable[[], None]
