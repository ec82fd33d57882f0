"""Whether an answer is of the form that a page prints: keys and types of JSON."""

import json
from typing import Any


def as_json(printed: str) -> Any:
    """What is printed, if it is JSON; lines are broken anywhere. Else None."""
    try:
        return json.loads(printed.replace("\n", ""))
    except json.JSONDecodeError:
        return None


def shape(value: Any) -> Any:
    """JSON with types in place of values; a list is what its items are."""
    if isinstance(value, dict):
        return {key: shape(one) for key, one in value.items()}
    if isinstance(value, list):
        shapes = [shape(one) for one in value]
        return [one for i, one in enumerate(shapes) if one not in shapes[:i]]
    if isinstance(value, bool) or value is None:
        return str(value)
    return "number" if isinstance(value, int | float) else "text"
