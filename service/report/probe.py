"""Probes: top-1 with its interval, class by class, and what is taken for what."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from service.report.drawing import BLUE, COLOR_MAP, VERMILION, grid, label, new_figure
from service.report.paper import LANDMARKS
from service.report.parts import JSON, Table, count, percent, percent_range

MAX_BARS = 30
MAX_NAMED = 30  # classes whose names stand beside a confusion matrix
MAX_WRITTEN = 12  # classes whose shares stand in its cells


def tables(report: JSON) -> list[Table]:
    """The scores, the paper's for comparison, and every class."""
    result = report["job"]["result"]
    if not result:
        return []
    rows = [("Top-1", percent(result["top1"]), percent_range(result.get("confidence_interval")))]
    if "top5" in result:
        rows.append(("Top-5", percent(result["top5"]), ""))
    note = f"Of {count(result['num_test'])} images that score it; the interval is the bootstrap's over these images."
    if "label_fraction" in result:
        note += f" {percent(result['label_fraction'])}% of the labels were learned from: {count(result['num_labels'])}."
    classes = [(name, percent(share)) for name, share in in_order(report).items()]
    return [
        Table("Accuracy", ("Score", "%", "95% interval"), rows, note),
        Table("Class by class", ("Class", "Accuracy (%)"), classes),
        Table(
            "For comparison: the paper",
            ("Source", "Setting", "Top-1 (%)"),
            [(source, setting, f"{top1:.1f}") for source, setting, top1 in LANDMARKS],
            "Other images, networks and lengths of training than here, unless the setting above says the same.",
        ),
    ]


def draw(report: JSON) -> Figure | None:
    """Bars by class, and the confusion matrix if the job has one; None before there is a result."""
    result = report["job"]["result"]
    if not result or not result["per_class"]:
        return None
    bars = shown_classes(in_order(report))
    confusion = result.get("confusion")
    height = 1.6 + 0.22 * max(len(bars), len(result["classes"]) if confusion else 0, 10)
    figure = new_figure(9.5 if confusion else 5.5, min(height, 8.5))
    panels = figure.subplots(1, 2 if confusion else 1, squeeze=False)[0]
    _draw_bars(panels[0], bars, result["top1"], num_classes=len(result["per_class"]))
    if confusion:
        _draw_confusion(panels[1], result["classes"], row_shares(confusion))
    return figure


def in_order(report: JSON) -> dict[str, float]:
    """Accuracy by class in the order of the data set's classes: the database keeps none of a result's keys."""
    per_class: dict[str, float] = report["job"]["result"]["per_class"]
    classes = report["job"]["result"].get("classes") or (report["dataset"] or {}).get("classes") or sorted(per_class)
    return {name: per_class[name] for name in classes if name in per_class}


def shown_classes(per_class: JSON) -> dict[str, float]:
    """All classes, or of very many those that are recognised worst."""
    if len(per_class) <= MAX_BARS:
        return dict(per_class)
    return dict(sorted(per_class.items(), key=lambda item: (item[1], item[0]))[:MAX_BARS])


def row_shares(confusion: Sequence[Sequence[int]]) -> NDArray[np.float64]:
    """Of the images of each class (a row) the shares taken for each class; NaN where there are none. (K, K)."""
    counts = np.array(confusion, np.float64)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.full_like(counts, np.nan)
    np.divide(counts, totals, out=shares, where=totals > 0)
    return shares


def _draw_bars(axes: Axes, bars: dict[str, float], top1: float, *, num_classes: int) -> None:
    positions = range(len(bars))
    axes.barh(positions, [100 * share for share in bars.values()], color=BLUE)
    axes.axvline(100 * top1, color=VERMILION, linestyle="--")
    axes.set_yticks(positions, [label(name) for name in bars])
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.set_xlim(0, 100)
    axes.set_xlabel(f"accuracy (%); dashed: of all images, {percent(top1)}")
    axes.set_title("By class" if len(bars) == num_classes else f"The {len(bars)} worst of {num_classes} classes")
    grid(axes, "x")


def _draw_confusion(axes: Axes, classes: Sequence[str], shares: NDArray[np.float64]) -> None:
    image = axes.imshow(100 * shares, cmap=COLOR_MAP, vmin=0, vmax=100)
    if len(classes) <= MAX_NAMED:
        names = [label(name, 16) for name in classes]
        axes.set_xticks(range(len(names)), names, rotation=90)
        axes.set_yticks(range(len(names)), names)
    if len(classes) <= MAX_WRITTEN:
        for (row, column), share in np.ndenumerate(shares):
            if not np.isnan(share):
                color = "black" if share > 0.5 else "white"
                axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", color=color, fontsize=8)
    axes.set_xlabel("taken for")
    axes.set_ylabel("class")
    axes.set_title("Confusion")
    axes.figure.colorbar(image, ax=axes, label="% of the class", shrink=0.6)
