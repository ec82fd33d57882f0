"""The list of decisions."""

from pathlib import Path


def decisions(folder: Path) -> str:
    """Each by its number and title."""
    lines = ["# Decisions\n\nWhy it is as it is: a page for each choice that would be hard to reverse.\n"]
    for path in sorted(folder.glob("0*.md")):
        title = path.read_text().split("\n", 1)[0].removeprefix("# ")
        lines.append(f"- [{path.stem[:4]}: {title}]({path.name})")
    return "\n".join(lines) + "\n"
