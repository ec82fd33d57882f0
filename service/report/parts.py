"""What a report's page is composed of, and how its numbers are written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

JSON = Mapping[str, Any]
Fact = tuple[str, str]  # what it is, and its value
MISSING = "–"  # noqa: RUF001  # a dash of a number's width


@dataclass(frozen=True)
class Table:
    """A table as text; the first column names the row. A marked row is the one to look at."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    marked: frozenset[int] = frozenset()


def percent(share: float | None) -> str:
    """A share of 1 in percent, with one decimal."""
    return MISSING if share is None else f"{100 * share:.1f}"


def percent_range(interval: Sequence[float] | None) -> str:
    """A 95% interval of shares, in percent."""
    return MISSING if not interval else f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f}"


def number(value: float | None, digits: int = 3) -> str:
    """A measure with so many significant digits."""
    return MISSING if value is None else f"{value:.{digits}g}"


def count(value: int | None) -> str:
    """A whole number, in groups of three."""
    return MISSING if value is None else f"{value:,}"


def seconds(value: float | None) -> str:
    """A duration, in the unit that suits it."""
    if value is None:
        return MISSING
    if value < 120:
        return f"{value:.1f} s"
    return f"{value / 60:.1f} min" if value < 7200 else f"{value / 3600:.1f} h"


def written(value: Any) -> str:
    """A value of a recipe: a list with plus signs, as Fig. 5 composes operations."""
    if isinstance(value, list | tuple):
        return " + ".join(map(written, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
