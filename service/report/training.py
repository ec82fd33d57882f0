"""Pretraining: how the loss and what goes with it went, step by step.

A run that lost an attempt goes on from its newest checkpoint, so that some steps were done twice: the later counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from service.report.drawing import BLUE, DARK, GRAY, ORANGE, grid, new_figure
from service.report.parts import JSON, Table, count, number, percent, seconds

COLORS = (BLUE, ORANGE)
NUM_COLUMNS = 2


@dataclass(frozen=True)
class Panel:
    """A picture of some measures over the steps, by the words of its legend."""

    title: str
    unit: str
    measures: dict[str, str]
    scale: float = 1


PANELS = (
    Panel("Loss", "", {"loss": "loss"}),  # its unit is that of the recipe's
    Panel("Contrastive accuracy", "% of views", {"contrastive_accuracy": "accuracy"}, scale=100),
    Panel("Entropy of the softmax", "nats", {"entropy": "entropy"}),
    Panel("Effective rank", "directions", {"effective_rank_h": "h", "effective_rank_z": "z"}),
    Panel("Alignment and uniformity of z", "no unit", {"alignment": "alignment", "uniformity": "uniformity"}),
    Panel("Speed", "images/s", {"images_per_second": "images/s"}),
)


def tables(report: JSON) -> list[Table]:
    """The figures at the end, or, of a run that goes on, the newest."""
    job = report["job"]
    result = job["result"] or {}
    newest = {name: _newest(values) for name, values in (report["metrics"] or {}).items()}
    measures = {**newest, **result.get("measures", {})}
    rows = [
        ("Steps", count(result.get("steps", (job["progress"] or {}).get("step")))),
        (f"Loss ({_unit_of_loss(report)})", number(result.get("loss", newest.get("loss")), 4)),
        ("Contrastive accuracy (%)", percent(measures.get("contrastive_accuracy"))),
        ("Entropy (nats)", number(measures.get("entropy"))),
        ("Alignment", number(measures.get("alignment"))),
        ("Uniformity", number(measures.get("uniformity"))),
        ("Effective rank of h", number(measures.get("effective_rank_h"))),
        ("Effective rank of z", number(measures.get("effective_rank_z"))),
        ("Images a second", number(result.get("images_per_second", newest.get("images_per_second")), 4)),
        ("Training time", seconds(result.get("seconds"))),
    ]
    model = report["model"]
    if model:
        rows.append(("ONNX parity (least cosine)", f"{model['parity_cosine']:.6f}"))
    note = f"Measures of up to 256 images of a step; images a second {'over all attempts' if result else 'just now'}."
    return [Table("At the end" if result else "So far", ("Measure", "Value"), rows, note), *_probes(model)]


def _newest(values: Sequence[float | str | None]) -> float | None:
    numbers = [value for value in values if isinstance(value, int | float)]
    return numbers[-1] if numbers else None


def _probes(model: JSON | None) -> list[Table]:
    probes = sorted((model or {}).get("probes", {}).items())
    rows = [(kind, percent(probe["top1"]), count(probe.get("num_test")), probe["job_id"]) for kind, probe in probes]
    return [Table("The model's newest probes of h", ("Probe", "Top-1 (%)", "Test images", "Job"), rows)] if rows else []


def draw(report: JSON) -> Figure | None:
    """A panel for each group of measures that there is, or None before the first."""
    metrics = report["metrics"] or {}
    panels = [panel for panel in PANELS if any(curve(metrics, name)[0] for name in panel.measures)]
    if not panels:
        return None
    num_rows = -(-len(panels) // NUM_COLUMNS)
    figure = new_figure(8, 0.3 + 2.1 * num_rows)
    all_axes = figure.subplots(num_rows, NUM_COLUMNS, sharex=True, squeeze=False).flat
    for axes, panel in zip(all_axes, panels, strict=False):
        _draw_panel(axes, panel, metrics, panel.unit or _unit_of_loss(report))
    for axes in list(all_axes)[len(panels) :]:
        axes.set_axis_off()
    return figure


def _unit_of_loss(report: JSON) -> str:
    return "no unit" if report["job"]["recipe"].get("loss", {}).get("name") == "margin" else "nats"


def _draw_panel(axes: Axes, panel: Panel, metrics: JSON, unit: str) -> None:
    for (name, words), color in zip(panel.measures.items(), COLORS, strict=False):
        steps, values = curve(metrics, name)
        axes.plot(steps, [panel.scale * value for value in values], color=color, label=words)
    for step in attempts_begin(metrics):
        axes.axvline(step, color=GRAY, linestyle=":", linewidth=1)
    axes.set_title(panel.title, color=DARK)
    axes.set_ylabel(unit)
    axes.set_xlabel("step")
    axes.tick_params(labelbottom=True)
    grid(axes, "y")
    if len(panel.measures) > 1:
        axes.legend()


def curve(metrics: JSON, name: str) -> tuple[list[float], list[float]]:
    """The steps at which a measure was taken, rising, and its values."""
    steps, values = metrics.get("step", []), metrics.get(name, [])
    points = [(step, value) for step, value in zip(steps, values, strict=False) if isinstance(value, int | float)]
    kept: list[tuple[float, float]] = []
    for step, value in reversed(points):
        if not kept or step < kept[-1][0]:
            kept.append((step, value))
    return [step for step, _ in reversed(kept)], [value for _, value in reversed(kept)]


def attempts_begin(metrics: JSON) -> list[float]:
    """The first steps that the attempts after the first tell of."""
    pairs = list(zip(metrics.get("attempt", []), metrics.get("step", []), strict=False))
    return [step for (before, _), (attempt, step) in pairwise(pairs) if attempt != before]
