"""Filters: which images of a collection, by their label and metadata.

{"op": "and", "filters": [
    {"op": "equals", "field": "metadata.camera", "value": "left"},
    {"op": "not", "filter": {"op": "in", "field": "label", "values": ["cat", "dog"]}},
    {"op": "range", "field": "metadata.taken_at", "gte": "2026-01-01"}
]}

A condition is true or false of an image, never unknown. Types don't coerce: 1 equals 1.0, but neither "1" nor true, and
a range of numbers holds numbers only. Text is ordered by its code points. Of a field that an image doesn't have, every
condition is false, so `not` makes it true. A key whose value is null exists and equals null; a label that is null
doesn't exist.
"""

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    FiniteFloat,
    Strict,
    StrictBool,
    StrictInt,
    WithJsonSchema,
    model_validator,
)

MAX_DEPTH = 8
MAX_CONDITIONS = 64
MAX_VALUES = 256  # of one `in`
METADATA = "metadata."

Name = Annotated[
    str, Field(pattern=r"^(label|metadata\.[^\x00]{1,64})$", description="`label`, or `metadata.` and a key.")
]
Text = Annotated[str, Strict(), Field(pattern=r"^[^\x00]*$", max_length=1000)]
Number = StrictInt | Annotated[FiniteFloat, Strict()]
Scalar = Text | StrictBool | Number | None
# A schema that contained itself would have no end where it is written out in full (service/bodies.py).
Nested = Annotated[
    "Condition", WithJsonSchema({"type": "object", "title": "Filter", "description": f"At most {MAX_DEPTH} levels."})
]
Several = Annotated[list[Nested], Field(min_length=1, max_length=MAX_CONDITIONS)]


class _Condition(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Equals(_Condition):
    """The field has this value, of this type."""

    op: Literal["equals"]
    field: Name
    value: Scalar


class In(_Condition):
    """The field has one of these values, of its type."""

    op: Literal["in"]
    field: Name
    values: list[Scalar] = Field(min_length=1, max_length=MAX_VALUES)


class Range(_Condition):
    """The field is a number between numbers, or a text between texts."""

    op: Literal["range"]
    field: Name
    gt: Number | Text | None = None
    gte: Number | Text | None = None
    lt: Number | Text | None = None
    lte: Number | Text | None = None

    @model_validator(mode="after")
    def _bounds_are_of_one_type(self) -> Self:
        bounds = self.bounds()
        if not bounds or len({isinstance(bound, str) for bound in bounds.values()}) > 1:
            raise ValueError("give gt, gte, lt or lte: all numbers or all texts")
        return self

    def bounds(self) -> dict[str, int | float | str]:
        """Those that are given, by name."""
        given = {"gt": self.gt, "gte": self.gte, "lt": self.lt, "lte": self.lte}
        return {name: bound for name, bound in given.items() if bound is not None}


class Exists(_Condition):
    """The image has the field."""

    op: Literal["exists"]
    field: Name


class And(_Condition):
    """All of these."""

    op: Literal["and"]
    filters: Several


class Or(_Condition):
    """At least one of these."""

    op: Literal["or"]
    filters: Several


class Not(_Condition):
    """Not this."""

    op: Literal["not"]
    filter: Nested


Condition = Annotated[Equals | In | Range | Exists | And | Or | Not, Discriminator("op")]

for _recursive in (And, Or, Not):
    _recursive.model_rebuild()


def _depths(condition: Condition, depth: int = 1) -> Iterator[int]:
    """The depth of each condition, `and`, `or` and `not` included."""
    yield depth
    match condition:
        case And() | Or():
            for part in condition.filters:
                yield from _depths(part, depth + 1)
        case Not():
            yield from _depths(condition.filter, depth + 1)


def _bounded(condition: Condition) -> Condition:
    depths = list(_depths(condition))
    if max(depths) > MAX_DEPTH:
        raise ValueError(f"at most {MAX_DEPTH} levels, not {max(depths)}")
    if len(depths) > MAX_CONDITIONS:
        raise ValueError(f"at most {MAX_CONDITIONS} conditions, not {len(depths)}")
    return condition


Filter = Annotated[Condition, AfterValidator(_bounded)]
