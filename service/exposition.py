"""Counters, histograms and gauges in Prometheus' text format (version 0.0.4).

For one event loop, in which they are counted and read. A few dozen lines in place of a client library, which would
bring a registry for the whole process and collectors that nobody asked for.
"""

from bisect import bisect_left
from collections import Counter as Counts
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Sample = tuple[str, Mapping[str, str], float]  # what follows the family's name, labels, value


def family(name: str, kind: str, about: str, samples: Iterable[Sample]) -> str:
    """All samples of a name, with what it is."""
    lines = [f"# HELP {name} {about}", f"# TYPE {name} {kind}"]
    lines += [f"{name}{suffix}{_labels(labels)} {value:.17g}" for suffix, labels, value in samples]
    return "\n".join(lines) + "\n"


def gauge(name: str, about: str, samples: Iterable[tuple[Mapping[str, str], float]]) -> str:
    """A family of values that go up and down."""
    return family(name, "gauge", about, (("", labels, value) for labels, value in samples))


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


class Counter:
    """What only grows, by the values of its labels."""

    def __init__(self, name: str, about: str, labels: Sequence[str]) -> None:
        self.name, self.about, self.labels = name, about, labels
        self._counts: Counts[tuple[str, ...]] = Counts()

    def add(self, number: int, *values: str) -> None:
        """Count `number` more for these values of the labels."""
        self._counts[values] += number

    def render(self) -> str:
        """Its family."""
        samples = [("", dict(zip(self.labels, values, strict=True)), count) for values, count in self._counts.items()]
        return family(self.name, "counter", self.about, samples)


class Histogram:
    """How many observations were up to each bound, by the values of its labels."""

    def __init__(self, name: str, about: str, bounds: Sequence[float], labels: Sequence[str] = ()) -> None:
        self.name, self.about, self.bounds, self.labels = name, about, bounds, labels
        self._counts: dict[tuple[str, ...], list[int]] = {}  # of each interval, the last one without an end
        self._sums: dict[tuple[str, ...], float] = {}

    def observe(self, value: float, *values: str) -> None:
        """Count `value` for these values of the labels."""
        counts = self._counts.setdefault(values, [0] * (len(self.bounds) + 1))
        counts[bisect_left(self.bounds, value)] += 1
        self._sums[values] = self._sums.get(values, 0) + value

    def render(self) -> str:
        """Its family."""
        samples: list[Sample] = []
        for values, counts in self._counts.items():
            labels = dict(zip(self.labels, values, strict=True))
            ends = [*(f"{bound:g}" for bound in self.bounds), "+Inf"]
            for end, number in zip(ends, accumulate(counts), strict=True):
                samples.append(("_bucket", {**labels, "le": end}, number))
            samples += [("_sum", labels, self._sums[values]), ("_count", labels, sum(counts))]
        return family(self.name, "histogram", self.about, samples)
