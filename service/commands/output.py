"""What the commands print."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from service.client import JSON

ID_WIDTH = 30  # of all but images
PIPE_WIDTH = 10_000

console = Console()

Limit = Annotated[int, typer.Option(min=1, help="Rows at most.")]


@dataclass(frozen=True)
class Column:
    """A column of a list: its title, where its value is, and how narrow it may become."""

    title: str
    key: str
    min_width: int | None = None


def show(thing: Any) -> None:
    """Print JSON, coloured on a terminal."""
    console.print_json(json.dumps(thing))


def show_list(items: Iterator[JSON], columns: list[Column], limit: int) -> None:
    """Print the first `limit` items as a table: as wide as a terminal, and in a pipe as it needs."""
    table = Table()
    for column in columns:
        table.add_column(column.title, overflow="fold", min_width=column.min_width)
    for item in islice(items, limit):
        table.add_row(*(Text("" if item.get(c.key) is None else str(item[c.key])) for c in columns))
    pipe = Console(file=console.file, width=PIPE_WIDTH, quiet=console.quiet)
    (console if console.is_terminal else pipe).print(table)
