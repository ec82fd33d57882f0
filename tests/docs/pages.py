"""What the README and the documents print: commands with what they answer, and snippets."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHELL = ("sh", "console")
PROMPT = "$ "


@dataclass(frozen=True)
class Snippet:
    """A fenced block: its language, and its text."""

    language: str
    text: str


@dataclass(frozen=True)
class Command:
    """A command line of a page, whole, and what is printed below it."""

    line: str
    printed: str = ""


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def snippets(page: Path) -> list[Snippet]:
    """The fenced blocks that say what they are."""
    return [Snippet(*match) for match in FENCE.findall(page.read_text())]


def commands(page: Path) -> list[Command]:
    """Those of a page, in its order."""
    return [command for snippet in snippets(page) for command in commands_of(snippet)]


def commands_of(snippet: Snippet) -> list[Command]:
    """In `sh` every line is a command, in `console` those after a prompt are, and the others what they print."""
    if snippet.language == "sh":
        return [Command(line) for line in _whole(snippet.text.splitlines())]
    if snippet.language != "console":
        return []
    parts = re.split(r"^\$ ", snippet.text, flags=re.MULTILINE)
    assert parts[0] == "", "a console begins with a prompt"
    found = []
    for part in parts[1:]:
        lines = part.splitlines()
        line = next(_whole(lines))
        found.append(Command(line, "\n".join(lines[line.count("\n") + 1 :])))
    return found


def _whole(lines: list[str]) -> Iterator[str]:
    """Commands of one or several lines: a quotation that is open, or a backslash at the end, goes on."""
    line = ""
    for part in lines:
        line += part
        if part.strip() and not part.endswith("\\") and _is_closed(line):
            yield line
            line = ""
        elif line:
            line += "\n"
    assert not line.strip(), f"{line}: not whole"


def _is_closed(line: str) -> bool:
    try:
        return bool(words(line))
    except ValueError:
        return False


def words(line: str) -> list[str]:
    """A command as a shell reads it, without what it would replace; comments are left out."""
    return shlex.split(line.replace("\\\n", " "), comments=True)
