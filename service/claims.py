"""What the paper says of its experiments, held against what ours measured: pure functions of the jobs' results.

A claim is of a difference between two accuracies. It holds if the difference is above the half-width of its 95%
interval, doesn't if it is below minus that, and else nothing was decided. The half-width is that of two independent
test sets, sqrt(a^2 + b^2) of the half-widths a and b: all accuracies here are of the same test images, so that what
is decided is decided with room.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from service.report.parts import written

Verdict = Literal["holds", "does not hold", "undecided"]
Result = Mapping[str, Any]  # of a job, as the API gives it
Cell = Mapping[str, Any]  # of an ablation's table

CROP, COLOR = "crop", "color_jitter"
NORMALIZE, TEMPERATURE, OPERATIONS = "loss.normalize", "loss.temperature", "augmentation.operations"


@dataclass(frozen=True)
class Accuracy:
    """A top-1 and the half-width of its 95% interval; of several seeds the mean of both."""

    name: str
    value: float
    half_width: float

    @classmethod
    def of(cls, name: str, value: float, interval: tuple[float, float]) -> "Accuracy":
        """With the interval [low, high] that the probe gives."""
        return cls(name, value, (interval[1] - interval[0]) / 2)

    def __str__(self) -> str:
        return f"{self.name} {self.value:.3f}"


@dataclass(frozen=True)
class Claim:
    """One sentence of the paper, or one question about it, and our answer."""

    claim: str
    source: str
    paper: str
    measured: str
    verdict: Verdict

    def as_json(self) -> dict[str, str]:
        """As it stands in the summary."""
        return asdict(self)


def layer_claims(sweep: Result) -> list[Claim]:
    """Of a layer sweep: h against z, and against all others (a question that the paper leaves open)."""
    layers = {row["layer"]: _of_layer(row) for row in sweep["layers"]}
    others = [accuracy for name, accuracy in layers.items() if name != "h"]
    claims = [
        _claim(
            "h is a better representation than every other layer",
            "a question; not in the paper",
            "-",
            layers["h"],
            _best(others),
        )
    ]
    if "z" in layers:
        source, paper = "Section 4.2, Fig. 8", "h is more than 10 points above z"
        claims.insert(0, _claim("h is a better representation than z", source, paper, layers["h"], layers["z"]))
    return claims


def transform_claims(probe: Result) -> list[Claim]:
    """Of a transform probe: what h knows of each transformation and z doesn't (Table 3)."""
    rows: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in probe["rows"]:
        rows.setdefault(row["transformation"], {})[row["layer"]] = row
    return [_knows(name, of["h"], of["z"]) for name, of in rows.items() if {"h", "z"} <= of.keys()]


def _knows(name: str, h: Mapping[str, Any], z: Mapping[str, Any]) -> Claim:
    paper = f"h {h['paper']:.3f}, g(h) {z['paper']:.3f}, chance {h['paper_chance']:.2f}"
    accuracies = (
        Accuracy.of(layer, row["accuracy"], row["confidence_interval"]) for layer, row in (("h", h), ("z", z))
    )
    claim = _claim(f"{name} is read from h better than from z", "Table 3", paper, *accuracies)
    return Claim(**{**asdict(claim), "measured": f"{claim.measured}; chance {h['chance']:.2f}"})


def normalization_claims(table: Result) -> list[Claim]:
    """Of a normalise x temperature grid (Table 5): what each does while the other stays as it is."""
    normalized = _by(TEMPERATURE, _measured(table, lambda values: values[NORMALIZE]))
    plain = _by(TEMPERATURE, _measured(table, lambda values: not values[NORMALIZE]))
    if not normalized or not plain:
        return []
    paper = "64.4 (normalised, temperature 0.1), 57.2 (not, 10)"
    best, worst = _best(_accuracies(normalized)), min(_accuracies(normalized), key=lambda accuracy: accuracy.value)
    claims = [
        _claim("the best normalised loss beats the best without", "Table 5", paper, best, _best(_accuracies(plain))),
        _claim("temperature matters where z is normalised", "Table 5", "64.4 at 0.1, 58.0 at 1", best, worst),
    ]
    for temperature in sorted(normalized.keys() & plain.keys()):
        sentence = f"at temperature {temperature:g}, normalising alone helps"
        cells = (normalized[temperature], plain[temperature])
        claims.append(_claim(sentence, "a question; Table 5 has no such pair", "-", *_accuracies(cells)))
    return [*claims, *_contrastive_claims([*plain.values()], [*normalized.values()])]


def _contrastive_claims(plain: list[Cell], normalized: list[Cell]) -> list[Claim]:
    """Table 5's point: the contrastive task is solved better without normalisation, and the representation is worse."""
    one, other = (max(map(_contrastive_accuracy, cells)) for cells in (plain, normalized))
    return [
        Claim(
            "the contrastive accuracy is higher without normalisation",
            "Table 5",
            "92.1 (not normalised, 100) against 87.8 (normalised, 0.1)",
            f"{one:.3f} against {other:.3f}, of up to 256 images of the last step",
            "holds" if one > other else "does not hold",
        )
    ]


def composition_claims(table: Result) -> list[Claim]:
    """Of a matrix of compositions (Fig. 5): the pair that stands out, and that none does it alone."""
    cells = _measured(table, lambda _: True)
    both = [cell for cell in cells if {CROP, COLOR} <= set(cell["values"][OPERATIONS])]
    others = [cell for cell in cells if cell not in both]
    alone = [cell for cell in others if is_single(cell["values"][OPERATIONS])]
    pairs = [cell for cell in cells if cell not in alone]
    claims = []
    if both and others:
        sentence = "crop and colour distortion together beat every other composition"
        claims.append(_claim(sentence, "Fig. 5", "stands out", _best(_accuracies(both)), _best(_accuracies(others))))
    if alone and pairs:
        sentence = "no single transformation is as good as the best pair"
        paper = "none suffices alone"
        claims.append(_claim(sentence, "Fig. 5", paper, _best(_accuracies(pairs)), _best(_accuracies(alone))))
    return claims


def is_single(operations: Iterable[str]) -> bool:
    """Whether the operations are one transformation of Fig. 5: colour distortion is jitter and grayscale."""
    return len({COLOR if name == "grayscale" else name for name in operations}) == 1


def _measured(table: Result, wanted: Callable[[Mapping[str, Any]], bool]) -> list[Cell]:
    return [cell for cell in table["cells"] if cell["mean"] is not None and wanted(cell["values"])]


def _by(field: str, cells: Iterable[Cell]) -> dict[Any, Cell]:
    return {cell["values"][field]: cell for cell in cells}


def _accuracies(cells: Iterable[Cell] | Mapping[Any, Cell]) -> list[Accuracy]:
    return [_of_cell(cell) for cell in (cells.values() if isinstance(cells, Mapping) else cells)]


def _of_cell(cell: Cell) -> Accuracy:
    intervals = [run["confidence_interval"] for run in cell["runs"]]
    half_width = sum(high - low for low, high in intervals) / len(intervals) / 2
    return Accuracy(", ".join(map(written, cell["values"].values())), cell["mean"], half_width)


def _contrastive_accuracy(cell: Cell) -> float:
    figures = [run["measures"]["contrastive_accuracy"] for run in cell["runs"]]
    return float(sum(figures) / len(figures))


def _of_layer(row: Mapping[str, Any]) -> Accuracy:
    return Accuracy.of(row["layer"], row["linear_top1"], row["confidence_interval"])


def _best(accuracies: Iterable[Accuracy]) -> Accuracy:
    return max(accuracies, key=lambda accuracy: accuracy.value)


def _claim(claim: str, source: str, paper: str, above: Accuracy, below: Accuracy) -> Claim:
    half_width = math.hypot(above.half_width, below.half_width)
    difference = above.value - below.value
    measured = f"{above}, {below}: {difference:+.3f} ± {half_width:.3f}"
    verdict: Verdict = "undecided"
    if abs(difference) > half_width:
        verdict = "holds" if difference > 0 else "does not hold"
    return Claim(claim, source, paper, measured, verdict)
