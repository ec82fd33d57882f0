"""The images of a collection that a request is about: all, or those that a filter holds for.

Filters become SQL over `collection_image c` in which every key and value is a parameter. SQL's third truth value, for
what is missing, is false at the top; below `not` it is made false (service/core/filters.py).
"""

import json
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.orm import Session

from service.core.filters import METADATA, And, Condition, Equals, Exists, In, Not, Or, Range, Scalar

COMPARISONS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


class Members(NamedTuple):
    """Which rows of `collection_image c`: SQL, and its parameters."""

    where: str
    parameters: dict[str, Any]


def members_of(collection_id: str, condition: Condition | None = None) -> Members:
    """The images of a collection that a filter holds for."""
    parameters = {"collection": collection_id}
    if condition is None:
        return Members("c.collection_id = :collection", parameters)
    translation = _Translation()
    where = f"c.collection_id = :collection and ({translation.sql(condition)})"
    return Members(where, parameters | translation.parameters)


def count_members(session: Session, members: Members, at_most: int) -> int:
    """The number of the images; counting stops at `at_most`."""
    statement = f"""
        select count(*) from (select from collection_image c where {members.where} limit :at_most) as counted
    """  # noqa: S608  # made above
    return int(session.execute(text(statement), {**members.parameters, "at_most": at_most}).scalar_one())


class _Translation:
    """SQL of conditions, with the parameters that it needs so far."""

    def __init__(self) -> None:
        self.parameters: dict[str, Any] = {}

    def sql(self, condition: Condition) -> str:
        match condition:
            case And() | Or():
                return f" {condition.op} ".join(f"({self.sql(part)})" for part in condition.filters)
            case Not():
                return f"not coalesce({self.sql(condition.filter)}, false)"
            case _ if condition.field == "label":
                return self._of_label(condition)
            case _:
                return self._of_metadata(condition, condition.field.removeprefix(METADATA))

    def _of_label(self, condition: Equals | In | Range | Exists) -> str:
        match condition:
            case Exists():
                return "c.label is not null"
            case Equals():
                return self._label_is([condition.value])
            case In():
                return self._label_is(condition.values)
            case Range():
                return self._text_range("c.label", condition) or "false"

    def _label_is(self, values: list[Scalar]) -> str:
        texts = [value for value in values if isinstance(value, str)]
        return f"c.label = any({self._parameter(texts, 'text[]')})"

    def _of_metadata(self, condition: Equals | In | Range | Exists, key: str) -> str:
        match condition:
            case Exists():
                return f"jsonb_exists(c.metadata, {self._parameter(key, 'text')})"
            case Equals():
                return f"c.metadata @> {self._json({key: condition.value})}"
            case In():
                pairs = self._parameter([json.dumps({key: value}) for value in condition.values], "jsonb[]")
                return f"c.metadata @> any({pairs})"
            case Range():
                name = self._parameter(key, "text")
                if texts := self._text_range(f"c.metadata ->> {name}", condition):
                    return f"jsonb_typeof(c.metadata -> {name}) = 'string' and {texts}"
                # Numbers as JSONB are exact, and ordered as such.
                bounds = (
                    f"c.metadata -> {name} {COMPARISONS[at]} {self._json(bound)}"
                    for at, bound in condition.bounds().items()
                )
                return f"jsonb_typeof(c.metadata -> {name}) = 'number' and {' and '.join(bounds)}"

    def _text_range(self, field: str, condition: Range) -> str | None:
        """SQL of a range of texts; None for one of numbers."""
        bounds = condition.bounds()
        if not all(isinstance(bound, str) for bound in bounds.values()):
            return None
        return " and ".join(
            f'({field}) collate "C" {COMPARISONS[at]} {self._parameter(bound, "text")}' for at, bound in bounds.items()
        )

    def _json(self, value: Any) -> str:
        return self._parameter(json.dumps(value), "jsonb")

    def _parameter(self, value: Any, type_: str) -> str:
        name = f"filter_{len(self.parameters)}"
        self.parameters[name] = value
        return f"cast(:{name} as {type_})"
