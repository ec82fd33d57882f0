"""What was promised, what was measured, and whether the one keeps the other."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

WIDTH = 140  # where the output is no terminal, which would tell its own


@dataclass(frozen=True)
class Entry:
    """One promise."""

    promise: str
    promised: str
    measured: str
    is_kept: bool


class Ledger:
    """The promises that were measured, in that order, and every figure by its name."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.figures: dict[str, Any] = {}

    @property
    def num_met(self) -> int:
        """How many promises are kept."""
        return sum(entry.is_kept for entry in self.entries)

    def note(self, **figures: Any) -> None:
        """Keep figures about which nothing is promised."""
        self.figures |= figures

    def none(self, name: str, promise: str, number: int, *, of: str) -> None:
        """Promised is none; `of` says among how many, or whatever shows that there was something to lose."""
        self.figures[name] = number
        self.entries.append(Entry(promise, "0", f"{number} {of}", number == 0))

    def at_most(self, name: str, promise: str, limit: float, measured: float, unit: str) -> None:
        """Promised is a figure that must not be passed."""
        self.figures[name] = round(measured, 3)
        self.entries.append(Entry(promise, f"≤ {limit:g} {unit}", f"{measured:.3g} {unit}", measured <= limit))

    def at_least(self, name: str, promise: str, limit: float, measured: float, unit: str) -> None:
        """Promised is a figure that must be reached."""
        self.figures[name] = round(measured, 3)
        self.entries.append(Entry(promise, f"≥ {limit:g} {unit}", f"{measured:.3g} {unit}", measured >= limit))

    def same(self, name: str, promise: str, expected: Any, measured: Any) -> None:
        """Promised is one value."""
        self.figures[name] = sorted(measured) if isinstance(measured, set) else measured
        self.entries.append(Entry(promise, _written(expected), _written(measured), measured == expected))

    def show(self) -> None:
        """Print the table."""
        console = Console()
        if not console.is_terminal:
            console = Console(width=WIDTH)
        table = Table("promise", "promised", "measured", "kept")
        for entry in self.entries:
            table.add_row(entry.promise, entry.promised, entry.measured, "yes" if entry.is_kept else "[bold]NO[/bold]")
        console.print(table)

    def summary(self) -> dict[str, Any]:
        """What a program reads of it."""
        return {"promises": len(self.entries), "met": self.num_met, "figures": self.figures}


def _written(value: Any) -> str:
    if isinstance(value, str) or not isinstance(value, Collection):
        return str(value)
    return ", ".join(map(str, sorted(value) if isinstance(value, set) else value)) or "none"
