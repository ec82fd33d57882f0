"""What each kind of job shows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from matplotlib.figure import Figure

from service.report import ablation, layers, probe, training, transformations
from service.report.parts import JSON, Fact, Table, written


def _nothing(_report: JSON) -> list[Fact]:
    return []


@dataclass(frozen=True)
class Kind:
    """The parts of a kind's report, each a function of its JSON."""

    tables: Callable[[JSON], list[Table]]
    draw: Callable[[JSON], Figure | None]
    shows: str  # the picture, to those who don't see it
    facts: Callable[[JSON], list[Fact]] = _nothing


PROBE = Kind(probe.tables, probe.draw, "Bars of the accuracy by class, and the confusion matrix if there is one.")
PICTURED: Mapping[str, Kind] = {
    "pretrain": Kind(training.tables, training.draw, "Curves of what was measured over the steps."),
    "linear_probe": PROBE,
    "knn_probe": PROBE,
    "finetune": PROBE,
    "layer_sweep": Kind(
        layers.tables, layers.draw, "Lines of top-1, effective rank, alignment and uniformity by layer."
    ),
    "transform_probe": Kind(
        transformations.tables, transformations.draw, "Bars of the accuracy by transformation and layer."
    ),
    "ablation": Kind(ablation.tables, ablation.draw, "Top-1 of every combination.", ablation.facts),
}


def _result(report: JSON) -> list[Table]:
    result = report["job"]["result"] or {}
    rows = [(name, written(value)) for name, value in result.items() if isinstance(value, str | int | float)]
    return [Table("Result", ("", ""), rows)] if rows else []


def kind_of(report: JSON) -> Kind:
    """The parts for a report's kind of job; of one without a picture its plain result."""
    return PICTURED.get(report["job"]["kind"], Kind(_result, lambda _report: None, ""))
