"""What the README, the guides and the help say of the commands is true of them."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperCommand, TyperGroup

from service.cli import app

ROOT = Path(__file__).parents[3]
COMMAND = typer.main.get_command(app)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
IN_MARKDOWN = re.compile(r"`(simclr [^`]+)`|^\s*(simclr .+)$", re.MULTILINE)
IN_HELP = re.compile(r"Example: (simclr .+)")


def commands(group: Any, path: str = "simclr") -> Iterator[tuple[str, TyperCommand]]:
    """Every command that does something, and its name."""
    if not isinstance(group, TyperGroup):
        yield path, group
        return
    for name, command in group.commands.items():
        yield from commands(command, f"{path} {name}")


def _text(page: Path) -> str:
    return page.read_text().replace("\\\n", " ")  # lines that go on are one


def written() -> list[str]:
    """The command lines of the pages and of the examples in the help."""
    pages = [line or fenced for page in PAGES for line, fenced in IN_MARKDOWN.findall(_text(page))]
    examples = [line for _, command in commands(COMMAND) for line in IN_HELP.findall(command.help or "")]
    return sorted({re.split(r"\s+#", line)[0].strip() for line in (*pages, *examples)} - {"simclr COMMAND --help"})


@pytest.mark.parametrize("line", written())
def test_a_written_command_can_be_run(line: str) -> None:
    """Its names and options are the program's."""
    words = shlex.split(line)[1:]
    command: Any = COMMAND
    while isinstance(command, TyperGroup):
        assert words, f"{line}: a command is missing"
        assert words[0] in command.commands, f"{line}: there is no {words[0]}"
        command = command.commands[words.pop(0)]
    context = command.make_context(line, words, resilient_parsing=True)  # values, which are made up, aren't looked at
    assert not context.args, f"{line}: {context.args} are too many"


def test_there_are_command_lines_to_look_at() -> None:
    """The search finds those of the README's table."""
    assert "simclr search query.jpg" in written()
    assert len(written()) > 20


@pytest.mark.parametrize(("name", "command"), list(commands(COMMAND)))
def test_every_command_says_what_it_does(name: str, command: TyperCommand) -> None:
    """One sentence first."""
    first = (command.help or "").split("\n\n")[0].replace("\n", " ")
    assert re.fullmatch(r"[A-Z][^\n]{10,120}\.", first), first
