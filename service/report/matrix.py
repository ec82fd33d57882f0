"""An ablation's table as a matrix, where its grid has the form of one: two fields, or Fig. 5's pairs of operations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.report.parts import JSON, written

OPERATIONS = "augmentation.operations"
MAX_COMPOSED = 2
COLOR = ["color_jitter", "grayscale"]  # App. A's colour distortion


@dataclass(frozen=True)
class Matrix:
    """Cells of an ablation's table by row and column; None where the grid has no such combination."""

    row_title: str
    column_title: str
    rows: Sequence[str]
    columns: Sequence[str]
    cells: Sequence[Sequence[JSON | None]]


def varied(fields: Mapping[str, Sequence[Any]]) -> dict[str, Sequence[Any]]:
    """The fields of a grid that have several values, in its order."""
    return {name: values for name, values in fields.items() if len(values) > 1}


def matrix_of(table: JSON) -> Matrix | None:
    """The first field's values as rows, the second's as columns, or Fig. 5; None of any other grid."""
    fields = varied(table["fields"])
    if len(fields) == 2:
        return _of_two_fields(table, fields)
    if list(fields) == [OPERATIONS]:
        return _of_compositions(table, fields[OPERATIONS])
    return None


def _of_two_fields(table: JSON, fields: Mapping[str, Sequence[Any]]) -> Matrix:
    (first, rows), (second, columns) = fields.items()
    cells = [[_cell(table, {first: row, second: column}) for column in columns] for row in rows]
    return Matrix(first, second, [*map(written, rows)], [*map(written, columns)], cells)


def _cell(table: JSON, values: Mapping[str, Any]) -> JSON | None:
    for cell in table["cells"]:
        if all(cell["values"][name] == value for name, value in values.items()):
            found: JSON = cell
            return found
    return None


def _of_compositions(table: JSON, values: Sequence[Sequence[str]]) -> Matrix | None:
    pairs = compositions(values)
    if pairs is None:
        return None
    rows = list(dict.fromkeys(first for first, _ in pairs))
    columns = list(dict.fromkeys([*rows, *(second for _, second in pairs)]))
    at = {pair: _cell(table, {OPERATIONS: value}) for pair, value in zip(pairs, values, strict=True)}
    cells = [[at.get((row, column)) for column in columns] for row in rows]
    return Matrix("first operation", "second operation", rows, columns, cells)


def compositions(values: Sequence[Sequence[str]]) -> list[tuple[str, str]] | None:
    """First and second operation of each list; of a single one twice the same, which is Fig. 5's diagonal.

    Color jitter with grayscale after it is one operation, colour distortion. What all lists share in front, such as
    the crop of both branches, is left out as long as one is longer than a pair.
    None if they aren't single operations and pairs.
    """
    lists = [_with_color(value) for value in values]
    while max(map(len, lists)) > MAX_COMPOSED and all(lists) and len({value[0] for value in lists}) == 1:
        lists = [value[1:] for value in lists]
    if not all(1 <= len(value) <= MAX_COMPOSED for value in lists):
        return None
    return [(value[0], value[-1]) for value in lists]


def _with_color(operations: Sequence[str]) -> list[str]:
    names = list(operations)
    for i in range(len(names) - 1):
        if names[i : i + 2] == COLOR:
            return [*names[:i], "color", *names[i + 2 :]]
    return names
