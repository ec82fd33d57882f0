"""Transform probes: Table 3, what each layer knows of the transformation that an image went through."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from service.report.drawing import BLUE, DARK, GREEN, ORANGE, PURPLE, VERMILION, grid, legend_outside, new_figure
from service.report.parts import JSON, Table, percent, percent_range

COLORS = (BLUE, ORANGE, GREEN, VERMILION, PURPLE)
COLUMNS = ("Transformation", "Layer", "Accuracy (%)", "95% interval", "Chance (%)", "Paper (%)", "Paper's chance (%)")
NOTE = (
    "Paper: Table 3, h and g(h) of an ImageNet ResNet-50 that was pretrained with all four among its views, read off by"
    " perceptrons, with 80% of the images in colour. Here the classifiers are linear and the alternatives equally many."
)
WIDTH = 0.8  # of a group of bars


def tables(report: JSON) -> list[Table]:
    """A row for each transformation and layer."""
    result = report["job"]["result"]
    if not result:
        return []
    rows = [
        (
            row["transformation"],
            row["layer"],
            percent(row["accuracy"]),
            percent_range(row["confidence_interval"]),
            percent(row["chance"]),
            percent(row["paper"]),
            percent(row["paper_chance"]),
        )
        for row in result["rows"]
    ]
    return [Table("What can be read off each layer (Table 3)", COLUMNS, rows, NOTE)]


def draw(report: JSON) -> Figure | None:
    """A group of bars for each transformation, with chance and the paper's accuracy; None before there is a result."""
    result = report["job"]["result"]
    if not result or not result["rows"]:
        return None
    rows: Sequence[JSON] = result["rows"]
    names = list(dict.fromkeys(row["transformation"] for row in rows))
    layers = list(dict.fromkeys(row["layer"] for row in rows))
    figure = new_figure(max(6.0, 1.5 + len(names) * (0.6 + 0.25 * len(layers))), 4)
    axes = figure.subplots()
    width = WIDTH / len(layers)
    for number, layer in enumerate(layers):
        of_layer = [row for row in rows if row["layer"] == layer]
        at = [names.index(row["transformation"]) + (number + 0.5) * width - WIDTH / 2 for row in of_layer]
        heights = [100 * row["accuracy"] for row in of_layer]
        axes.bar(at, heights, 0.92 * width, yerr=_interval(of_layer), capsize=3, color=_color(number), label=layer)
        known = [(x, 100 * row["paper"]) for x, row in zip(at, of_layer, strict=True) if row["paper"] is not None]
        words = None if number else "paper's"
        axes.plot([x for x, _ in known], [y for _, y in known], "D", color=DARK, markerfacecolor="white", label=words)
    chances = {row["transformation"]: 100 * row["chance"] for row in rows}
    starts = [number - WIDTH / 2 for number in range(len(names))]
    ends = [start + WIDTH for start in starts]
    axes.hlines([chances[name] for name in names], starts, ends, color=DARK, linestyle="--", label="chance")
    axes.set_xticks(range(len(names)), names)
    axes.set_ylim(0, 105)
    axes.set_ylabel("accuracy (%)")
    axes.set_xlabel("transformation")
    legend_outside(axes)
    grid(axes, "y")
    return figure


def _interval(rows: Sequence[JSON]) -> list[list[float]]:
    """How far the 95% intervals go below and above the accuracies, in points: (2, number of rows)."""
    below = [100 * (row["accuracy"] - row["confidence_interval"][0]) for row in rows]
    return [below, [100 * (row["confidence_interval"][1] - row["accuracy"]) for row in rows]]


def _color(number: int) -> str:
    return COLORS[number % len(COLORS)]
