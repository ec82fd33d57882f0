"""Ablations: mean and spread of each combination, what is missing and why, and how far to trust it."""

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from service.report import paper
from service.report.drawing import BLUE, COLOR_MAP, GRAY, grid, label, new_figure
from service.report.matrix import Matrix, matrix_of, varied
from service.report.parts import JSON, MISSING, Fact, Table, number, percent, written
from service.report.setting import scored_on

MAX_POINTS = 60
HEAD = "head.num_layers"


def facts(report: JSON) -> list[Fact]:
    """Fields of the grid that have one value, the images that scored the runs, and the best combination."""
    table = report["table"]
    found = [(name, written(values[0])) for name, values in table["fields"].items() if len(values) == 1]
    first = next((run for cell in table["cells"] for run in cell["runs"]), None)
    if first and first.get("num_test"):
        found.append(("Scored on", scored_on(first)))
    if best := table["best"]:
        found.append(("Best, on training images held out", _combination(best, best)))
    return found


def tables(report: JSON) -> list[Table]:
    """A row for each combination; below, each run that is missing."""
    table, num_seeds = report["table"], len(report["job"]["recipe"]["seeds"])
    fields = list(varied(table["fields"]) or table["fields"])
    measured = any(run["measures"] for cell in table["cells"] for run in cell["runs"])
    of_paper = paper.table_of(list(varied(table["fields"])))
    columns = [
        *fields,
        "Top-1, mean (%)",
        "Std over seeds (points)",
        "Runs",
        "Half-width of a run's 95% interval (points)",
    ]
    columns += ["Contrastive accuracy (%)", "Entropy (nats)"] if measured else []
    columns += [f"Paper, {of_paper.name} (%)"] if of_paper else []
    rows = []
    for cell in table["cells"]:
        row = [*(written(cell["values"][name]) for name in fields), *_scores(cell, num_seeds)]
        row += [percent(_mean(cell, "contrastive_accuracy")), number(_mean(cell, "entropy"))] if measured else []
        row += [_of_paper(of_paper, report, cell)] if of_paper else []
        rows.append(row)
    best = frozenset(i for i, cell in enumerate(table["cells"]) if cell["values"] == table["best"])
    note = _note(table, num_seeds, of_paper)
    return [Table("Every combination", columns, rows, note, best), *_missing(table["cells"])]


def _scores(cell: JSON, num_seeds: int) -> list[str]:
    return [
        percent(cell["mean"]),
        percent(cell["std"]),
        f"{len(cell['runs'])} of {num_seeds}",
        percent(_half_width([cell])),
    ]


def _half_width(cells: Iterable[JSON]) -> float | None:
    """Mean over the runs of half their probes' intervals."""
    intervals = [run["confidence_interval"] for cell in cells for run in cell["runs"]]
    return statistics.mean((high - low) / 2 for low, high in intervals) if intervals else None


def _mean(cell: JSON, measure: str) -> float | None:
    values = [run["measures"][measure] for run in cell["runs"] if measure in run["measures"]]
    return statistics.mean(values) if values else None


def _of_paper(table: paper.Table, report: JSON, cell: JSON) -> str:
    top1 = table.top1(paper.fields_of(report["job"]["recipe"]["base"], cell["values"]))
    return MISSING if top1 is None else f"{top1:.1f}"


def _note(table: JSON, num_seeds: int, of_paper: paper.Table | None) -> str:
    half_width = _half_width(table["cells"])
    sentences = []
    if half_width is not None:
        sentences.append(
            f"{num_seeds} {'seed' if num_seeds == 1 else 'seeds'} each; the images that score a run leave it uncertain"
            f" by about {percent(half_width)} points either way, so smaller differences may be chance."
        )
    if num_seeds == 1:
        sentences.append("One seed says nothing of the spread from run to run.")
    if of_paper:
        sentences.append(f"The paper's setting: {of_paper.setting}.")
    if HEAD in table["fields"]:
        sentences.append(f"The paper, {paper.HEADS}")
    return " ".join(sentences)


def _missing(cells: Sequence[JSON]) -> list[Table]:
    rows = [
        (_combination(cell["values"], cell["values"]), str(run["seed"]), run["status"], _cause(run), run["job_id"])
        for cell in cells
        for run in cell["missing"]
    ]
    return [Table("Missing", ("Combination", "Seed", "Status", "Why", "Job"), rows)] if rows else []


def _cause(run: JSON) -> str:
    return f"{run['error']['message']} ({run['error']['code']})" if run["error"] else ""


def _combination(values: JSON, fields: Iterable[str]) -> str:
    return ", ".join(f"{name.rpartition('.')[2]} {written(values[name])}" for name in fields)


def draw(report: JSON) -> Figure | None:
    """A heat map where the grid is a matrix, else points; None before the first run is measured."""
    table: dict[str, Any] = report["table"]
    if all(cell["mean"] is None for cell in table["cells"]):
        return None
    num_seeds = len(report["job"]["recipe"]["seeds"])
    matrix = matrix_of(table)
    return _heat_map(matrix, num_seeds) if matrix else _points(table, num_seeds)


def _heat_map(matrix: Matrix, num_seeds: int) -> Figure:
    figure = new_figure(2.8 + 0.85 * len(matrix.columns), 1.6 + 0.6 * len(matrix.rows))
    axes = figure.subplots()
    means = np.array([[np.nan if cell is None else _percentage(cell) for cell in row] for row in matrix.cells])
    image = axes.imshow(means, cmap=COLOR_MAP, aspect="auto")
    lowest, highest = np.nanmin(means), np.nanmax(means)
    for (row, column), mean in np.ndenumerate(means):
        if np.isnan(mean):
            corner = (column - 0.5, row - 0.5)
            axes.add_patch(Rectangle(corner, 1, 1, fill=False, hatch="////", edgecolor=GRAY, linewidth=0))
            continue
        cell = matrix.cells[row][column]
        assert cell is not None
        color = "black" if mean - lowest > (highest - lowest) / 2 else "white"
        axes.text(column, row, cell_text(cell, num_seeds), ha="center", va="center", color=color, fontsize=8)
    axes.set_xticks(range(len(matrix.columns)), [label(name) for name in matrix.columns], rotation=30, ha="right")
    axes.set_yticks(range(len(matrix.rows)), [label(name) for name in matrix.rows])
    axes.set_xlabel(matrix.column_title)
    axes.set_ylabel(matrix.row_title)
    axes.set_title("Top-1 (%)" + ("; hatched: not measured" if np.isnan(means).any() else ""))
    figure.colorbar(image, ax=axes, label="top-1 (%)")
    return figure


def _percentage(cell: JSON) -> float:
    return float("nan") if cell["mean"] is None else 100 * cell["mean"]


def cell_text(cell: JSON, num_seeds: int) -> str:
    """What stands in a cell: the mean, the spread if there is one, and how many runs if not all are there."""
    lines = [percent(cell["mean"])]
    if cell["std"] is not None:
        lines.append(f"±{percent(cell['std'])}")
    if len(cell["runs"]) < num_seeds:
        lines.append(f"{len(cell['runs'])} of {num_seeds}")
    return "\n".join(lines)


def _points(table: JSON, num_seeds: int) -> Figure:
    fields = list(varied(table["fields"]) or table["fields"])
    measured = [cell for cell in table["cells"] if cell["mean"] is not None]
    cells = measured[:MAX_POINTS]
    figure = new_figure(8, 1.4 + 0.28 * len(cells))
    axes = figure.subplots()
    _draw_points(axes, cells, has_spread=num_seeds > 1)
    axes.set_yticks(range(len(cells)), [label(_combination(cell["values"], fields), 70) for cell in cells])
    axes.invert_yaxis()
    axes.set_title("Every combination" if len(cells) == len(measured) else f"The first {len(cells)} of {len(measured)}")
    return figure


def _draw_points(axes: Axes, cells: Sequence[JSON], *, has_spread: bool) -> None:
    half = [percent_error(cell, has_spread=has_spread) for cell in cells]
    means = [_percentage(cell) for cell in cells]
    axes.errorbar(means, range(len(cells)), xerr=half, fmt="o", color=BLUE, capsize=3)
    bars = "standard deviation over seeds" if has_spread else "95% interval of the probe"
    axes.set_xlabel(f"top-1 (%), mean; bars: {bars}")
    grid(axes, "x")


def percent_error(cell: JSON, *, has_spread: bool) -> float:
    """Half the length of a point's error bar; 0 of a single run where the others have several."""
    half = cell["std"] if has_spread else _half_width([cell])
    return 100 * (half or 0)
