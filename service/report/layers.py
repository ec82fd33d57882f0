"""Layer sweeps: what each layer is worth, in the order of the network, with h marked."""

import re
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from service.report.drawing import BLUE, GREEN, ORANGE, PALE, VERMILION, grid, legend_outside, new_figure
from service.report.parts import JSON, Table, count, number, percent, percent_range

GROUPS = ("stem", "layer", "blocks", "h", "g", "z")  # of layer names (models/layers.py), from the image on
COLUMNS = (
    "Layer",
    "Size",
    "Linear top-1 (%)",
    "95% interval",
    "kNN top-1 (%)",
    "Effective rank",
    "Alignment",
    "Uniformity",
)
PAPER = (
    "The paper (Section 4.2, ImageNet): the layer before the head, h, is better than its output by more than 10 points."
)


def in_order(rows: Sequence[JSON]) -> list[JSON]:
    """The rows from the image to z, whatever order the recipe asked for them in."""
    return sorted(rows, key=lambda row: _depth(row["layer"]))


def _depth(layer: str) -> tuple[int, list[int]]:
    group = re.match(r"[a-z]*", layer)
    assert group is not None
    position = GROUPS.index(group[0]) if group[0] in GROUPS else len(GROUPS)
    return position, [int(digits) for digits in re.findall(r"\d+", layer)]


def tables(report: JSON) -> list[Table]:
    """A row for each layer."""
    result = report["job"]["result"]
    if not result:
        return []
    layers = in_order(result["layers"])
    rows = [
        (
            row["layer"],
            count(row["size"]),
            percent(row["linear_top1"]),
            percent_range(row["confidence_interval"]),
            percent(row["knn_top1"]),
            number(row["effective_rank"]),
            number(row["alignment"]),
            number(row["uniformity"]),
        )
        for row in layers
    ]
    marked = frozenset(i for i, row in enumerate(layers) if row["layer"] == "h")
    note = (
        f"The votes of {result['k']} neighbours; alignment and uniformity of two views each of"
        f" {count(result['num_view_images'])} images. {PAPER}"
    )
    return [Table("Layer by layer, from the image to z", COLUMNS, rows, note, marked)]


def draw(report: JSON) -> Figure | None:
    """Top-1, effective rank, alignment and uniformity by layer; None before there is a result."""
    result = report["job"]["result"]
    if not result or not result["layers"]:
        return None
    rows = in_order(result["layers"])
    figure = new_figure(max(7, 3 + 0.4 * len(rows)), 7)
    panels = figure.subplots(3, 1, sharex=True)
    _draw_top1(panels[0], rows)
    _draw_lines(panels[1], rows, {"effective_rank": ("effective rank", GREEN)}, "directions")
    lines = {"alignment": ("alignment", BLUE), "uniformity": ("uniformity", ORANGE)}
    _draw_lines(panels[2], rows, lines, "no unit")
    names = [row["layer"] for row in rows]
    for axes in panels:
        if "h" in names:
            axes.axvspan(names.index("h") - 0.4, names.index("h") + 0.4, color=PALE, zorder=0)
        legend_outside(axes)
        grid(axes, "y")
    panels[2].set_xticks(range(len(names)), names, rotation=45, ha="right")
    panels[2].set_xlabel("layer, from the image to z; h is shaded")
    return figure


def _draw_top1(axes: Axes, rows: Sequence[JSON]) -> None:
    positions = range(len(rows))
    linear = [100 * row["linear_top1"] for row in rows]
    below = [value - 100 * row["confidence_interval"][0] for value, row in zip(linear, rows, strict=True)]
    above = [100 * row["confidence_interval"][1] - value for value, row in zip(linear, rows, strict=True)]
    axes.errorbar(positions, linear, [below, above], color=BLUE, marker="o", capsize=3, label="linear, 95% interval")
    axes.plot(positions, [100 * row["knn_top1"] for row in rows], color=VERMILION, marker="s", label="kNN")
    axes.set_ylabel("top-1 (%)")


def _draw_lines(axes: Axes, rows: Sequence[JSON], lines: dict[str, tuple[str, str]], unit: str) -> None:
    for name, (words, color) in lines.items():
        axes.plot(range(len(rows)), [row[name] for row in rows], color=color, marker="o", label=words)
    axes.set_ylabel(unit)
