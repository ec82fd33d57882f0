"""The language of filters."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from service.core.filters import MAX_CONDITIONS, MAX_DEPTH, MAX_VALUES, Filter

FILTER: TypeAdapter[Any] = TypeAdapter(Filter)
LEAF = {"op": "exists", "field": "label"}


def nested(depth: int) -> dict[str, Any]:
    """A filter of so many levels."""
    return LEAF if depth == 1 else {"op": "not", "filter": nested(depth - 1)}


def all_of(number: int) -> dict[str, Any]:
    return {"op": "and", "filters": [LEAF] * number}


def test_the_bounds_are_what_they_say() -> None:
    """As many levels, conditions and values as are allowed, and not one more."""
    in_ = {"op": "in", "field": "metadata.a", "values": [1]}
    for allowed in (nested(MAX_DEPTH), all_of(MAX_CONDITIONS - 1), in_ | {"values": [1] * MAX_VALUES}):
        FILTER.validate_python(allowed)
    for refused, message in (
        (nested(MAX_DEPTH + 1), "at most 8 levels, not 9"),
        (all_of(MAX_CONDITIONS), "at most 64 conditions, not 65"),
        ({"op": "or", "filters": [all_of(40), all_of(40)]}, "at most 64 conditions, not 83"),
        (in_ | {"values": [1] * (MAX_VALUES + 1)}, "at most 256"),
    ):
        with pytest.raises(ValidationError, match=message):
            FILTER.validate_python(refused)


@pytest.mark.parametrize(
    "refused",
    [
        {"op": "equals", "field": "metadata.a", "value": [1]},
        {"op": "equals", "field": "metadata.a", "value": float("nan")},
        {"op": "equals", "field": "metadata.a"},
        {"op": "equals", "field": "filename", "value": "a"},
        {"op": "equals", "field": "metadata." + "k" * 65, "value": 1},
        {"op": "equals", "field": "metadata.", "value": 1},
        {"op": "equals", "field": "metadata.a", "value": "\0"},
        {"op": "in", "field": "label", "values": []},
        {"op": "range", "field": "metadata.a"},
        {"op": "range", "field": "metadata.a", "gt": 1, "lt": "b"},
        {"op": "range", "field": "metadata.a", "gt": True},
        {"op": "and", "filters": []},
        {"op": "nor", "filters": [LEAF]},
        LEAF | {"value": 1},
    ],
)
def test_what_is_no_filter(refused: dict[str, Any]) -> None:
    """Values that are no scalars, fields that an image doesn't have, bounds of two types, and what is empty."""
    with pytest.raises(ValidationError):
        FILTER.validate_python(refused)
