"""The commands, from what `--help` says."""

from collections.abc import Iterator
from typing import Any

import typer
from typer.core import TyperGroup

from service.cli import app

INTRODUCTION = """# Command line

After `make setup` the commands are in `.venv/bin`. Those that talk to a service take `--url`, or `SIMCLR_URL` of the
environment, and send the key that `SIMCLR_API_KEY` has. `simclr COMMAND --help` says what is here.
"""


def command_line() -> str:
    """A section a command."""
    return "\n".join((INTRODUCTION, *_sections(typer.main.get_command(app), "simclr")))


def _sections(command: Any, path: str) -> Iterator[str]:
    if isinstance(command, TyperGroup):
        for name, part in command.commands.items():
            yield from _sections(part, f"{path} {name}")
        return
    context = command.make_context(path, [], resilient_parsing=True)
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"## {path}\n\n{_text(command.help)}\n\n```text\n{path} {usage}\n```\n"
    records = [record for one in command.get_params(context) if (record := one.get_help_record(context))]
    rows = [f"| `{names.strip()}` | {_cell(text)} |" for names, text in records if "--help" not in names]
    yield "\n".join(("| option | |", "|---|---|", *rows)) + "\n" if rows else ""


def _text(help_text: str) -> str:
    """The help, its example as code."""
    paragraphs = [" ".join(paragraph.split()) for paragraph in help_text.split("\n\n")]
    return "\n\n".join(
        f"Example: `{one.removeprefix('Example: ')}`" if one.startswith("Example: ") else one for one in paragraphs
    )


def _cell(text: str) -> str:
    return " ".join(text.replace("\\[", "[").split()).replace("|", "\\|")
