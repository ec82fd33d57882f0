"""docker/Dockerfile as a list of instructions by stage."""

import re
from dataclasses import dataclass, field
from functools import lru_cache

from tests.docker.compose import ROOT

FILE = ROOT / "docker" / "Dockerfile"


@dataclass
class Stage:
    """A stage: what it starts from, and its instructions in order."""

    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def all(self, name: str) -> list[str]:
        """The arguments of every instruction of a name."""
        return [arguments for instruction, arguments in self.instructions if instruction == name]


@lru_cache
def stages() -> dict[str, Stage]:
    """The stages by name, ${PYTHON} filled in."""
    text = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", FILE.read_text(), flags=re.MULTILINE))
    found: dict[str, Stage] = {}
    arguments: dict[str, str] = {}
    for line in filter(None, text.splitlines()):
        instruction, _, rest = line.partition(" ")
        for name, value in arguments.items():
            rest = rest.replace(f"${{{name}}}", value)
        if instruction == "FROM":
            base, _, name = rest.partition(" AS ")
            stage = found[name] = Stage(base)
        elif not found:
            assert instruction == "ARG", line
            name, _, value = rest.partition("=")
            arguments[name] = value
        else:
            stage.instructions.append((instruction, rest.strip()))
    return found


def inherited(name: str) -> list[tuple[str, str]]:
    """The instructions of a stage after those of the stages that it starts from."""
    stage = stages()[name]
    before = inherited(stage.base) if stage.base in stages() else []
    return [*before, *stage.instructions]
