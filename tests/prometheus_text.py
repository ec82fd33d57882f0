"""Prometheus' text format, read as its definition says: families and samples."""

import re

SAMPLE = re.compile(r"^(?P<name>[a-z_]+)(?:\{(?P<labels>.*)\})? (?P<value>\S+)$")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def families(text: str) -> dict[str, str]:
    """The kind of each family: counter, gauge or histogram."""
    return dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, flags=re.MULTILINE))


def samples(text: str) -> Samples:
    """The values by name and labels; a sample that comes twice is an error."""
    found: Samples = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        sample = SAMPLE.match(line)
        assert sample, line
        key = (sample["name"], frozenset(LABEL.findall(sample["labels"] or "")))
        assert key not in found, line
        found[key] = float(sample["value"])
    return found


def value(found: Samples, name: str, **labels: str) -> float:
    """One sample, 0 where it isn't there yet."""
    return found.get((name, frozenset(labels.items())), 0)
