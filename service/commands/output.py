"""What the commands print."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from service.client import JSON

console = Console()

Limit = Annotated[int, typer.Option(help="Rows at most.")]


@dataclass(frozen=True)
class Column:
    """A column of a list: its title and where its value is."""

    title: str
    key: str


def show(thing: Any) -> None:
    """Print JSON, coloured on a terminal."""
    console.print_json(json.dumps(thing))


def show_list(items: Iterator[JSON], columns: list[Column], limit: int) -> None:
    """Print the first `limit` items as a table."""
    table = Table(*(column.title for column in columns))
    for item in islice(items, limit):
        table.add_row(*("" if item.get(c.key) is None else str(item[c.key]) for c in columns))
    console.print(table)
