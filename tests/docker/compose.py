"""docker-compose.yml as compose reads it: anchors merged, variables filled in."""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.yml"
VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::(?P<kind>[-?])(?P<rest>[^${}]*))?\}")  # the innermost one
PASSWORDS = {
    "POSTGRES_PASSWORD": "p0",
    "REDIS_PASSWORD": "p1",
    "STORAGE_SECRET_KEY": "p2",
    "GRAFANA_PASSWORD": "p3",
}


def filled_in(text: str, values: Mapping[str, str]) -> str:
    """The text with ${NAME}, ${NAME:-default} and ${NAME:?message} replaced; raises KeyError with the message."""

    def value(found: re.Match[str]) -> str:
        if values.get(found["name"]):
            return values[found["name"]]
        if found["kind"] != "-":
            raise KeyError(f"{found['name']} {found['rest']}")
        return str(found["rest"])

    while VARIABLE.search(text):
        text = VARIABLE.sub(value, text)
    assert "$" not in text, text
    return text


def _deep(node: Any, values: Mapping[str, str]) -> Any:
    if isinstance(node, dict):
        return {key: _deep(value, values) for key, value in node.items()}
    if isinstance(node, list):
        return [_deep(value, values) for value in node]
    return filled_in(node, values) if isinstance(node, str) else node


@lru_cache
def compose() -> dict[str, Any]:
    """The file with passwords and no other variables."""
    document: dict[str, Any] = _deep(yaml.safe_load(FILE.read_text()), PASSWORDS)
    return document


def services() -> dict[str, dict[str, Any]]:
    """Its services by name."""
    found: dict[str, dict[str, Any]] = compose()["services"]
    return found


def mounts() -> Iterator[tuple[str, str, str]]:
    """Service, source and target of every volume."""
    for name, service in services().items():
        for volume in service.get("volumes", []):
            source, target, *_ = volume.split(":")
            yield name, source, target
