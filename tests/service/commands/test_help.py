"""What the README, the guides and the help say of the commands is true of them."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.core import TyperCommand, TyperGroup

from service.cli import app
from tests.docs.pages import PAGES
from tests.docs.pages import commands as fenced_commands
from tests.docs.pages import words as shell_words

COMMAND = typer.main.get_command(app)
IN_TEXT = re.compile(r"`(simclr [^`]+)`")
IN_HELP = re.compile(r"Example: (simclr .+)")


def commands(group: Any, path: str = "simclr") -> Iterator[tuple[str, TyperCommand]]:
    """Every command that does something, and its name."""
    if not isinstance(group, TyperGroup):
        yield path, group
        return
    for name, command in group.commands.items():
        yield from commands(command, f"{path} {name}")


def written() -> list[str]:
    """The command lines of the pages and of the examples in the help."""
    in_text = [line for page in PAGES for line in IN_TEXT.findall(page.read_text())]
    lines = [command.line.removeprefix(".venv/bin/") for page in PAGES for command in fenced_commands(page)]
    fenced = [line for line in lines if line.startswith("simclr ")]
    examples = [line for _, command in commands(COMMAND) for line in IN_HELP.findall(command.help or "")]
    every = (re.split(r"\s+#", line)[0] for line in (*in_text, *fenced, *examples))
    return sorted({*every} - {"simclr COMMAND --help"})


@pytest.mark.parametrize("line", written())
def test_a_written_command_can_be_run(line: str) -> None:
    """Its names and options are the program's."""
    words = shell_words(line)[1:]
    command: Any = COMMAND
    while isinstance(command, TyperGroup):
        assert words, f"{line}: a command is missing"
        assert words[0] in command.commands, f"{line}: there is no {words[0]}"
        command = command.commands[words.pop(0)]
    context = command.make_context(line, words, resilient_parsing=True)  # values, which are made up, aren't looked at
    assert not context.args, f"{line}: {context.args} are too many"


def test_there_are_command_lines_to_look_at() -> None:
    """The search finds those of the guides."""
    assert "simclr search query.jpg --collection pets" in written()
    assert len(written()) > 20


@pytest.mark.parametrize(("name", "command"), list(commands(COMMAND)))
def test_every_command_says_what_it_does(name: str, command: TyperCommand) -> None:
    """One sentence first."""
    first = (command.help or "").split("\n\n")[0].replace("\n", " ")
    assert re.fullmatch(r"[A-Z][^\n]{10,120}\.", first), first
