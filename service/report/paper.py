"""Numbers of the SimCLR paper (arXiv 2002.05709) to set beside ours: top-1 in percent, each with its table and setting.

Table 3's are in the rows of a transform probe's result themselves (trainer/probes/transform.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

DEFAULT = "ImageNet, ResNet-50, linear evaluation, batch 4096, 100 epochs"
LONG = "ImageNet, ResNet-50, linear evaluation, batch 4096, 1000 epochs"

Fields = Mapping[str, Any]  # of a pretraining recipe, by path: {"loss.temperature": 0.1}


@dataclass(frozen=True)
class Row:
    """A row of a table: the fields that it stands for, and its top-1."""

    fields: Fields
    top1: float


@dataclass(frozen=True)
class Table:
    """A table, and the fields that it varies."""

    name: str
    setting: str
    varies: frozenset[str]
    rows: Sequence[Row]

    def top1(self, fields: Fields) -> float | None:
        """The paper's number for a run with these fields, or None if the table has no such row."""
        for row in self.rows:
            if all(name in fields and fields[name] == value for name, value in row.fields.items()):
                return row.top1
        return None


def _table(name: str, setting: str, varies: set[str], rows: Sequence[tuple[Fields, float]]) -> Table:
    return Table(name, setting, frozenset(varies), [Row(fields, top1) for fields, top1 in rows])


def _strength(strength: float, *, blur: bool = False) -> Fields:
    return {"augmentation.color_strength": strength, "blur": blur}


def _loss(name: str, *, semi_hard: bool = False) -> Fields:
    return {"loss.name": name, "loss.semi_hard": semi_hard}


def _temperature(temperature: float, *, normalize: bool) -> Fields:
    return {"loss.normalize": normalize, "loss.temperature": temperature}


def _batch(size: int, scaling: str) -> Fields:
    return {"batch_size": size, "optimizer.scaling": scaling}


TABLES = (
    _table(
        "Table 1",
        DEFAULT,
        {"augmentation.color_strength", "augmentation.blur_probability"},
        [
            (_strength(1 / 8), 59.6),
            (_strength(1 / 4), 61.0),
            (_strength(1 / 2), 62.6),
            (_strength(1), 63.2),
            (_strength(1, blur=True), 64.5),
        ],
    ),
    _table(
        "Table 4",
        f"{DEFAULT}, negatives of one view (B.10)",
        {"loss.name", "loss.semi_hard"},
        [
            (_loss("margin"), 50.9),
            (_loss("nt_logistic"), 51.6),
            (_loss("margin", semi_hard=True), 57.5),
            (_loss("nt_logistic", semi_hard=True), 57.9),
            (_loss("nt_xent"), 63.9),
        ],
    ),
    _table(
        "Table 5",
        DEFAULT,
        {"loss.normalize", "loss.temperature"},
        [
            (_temperature(0.05, normalize=True), 59.7),
            (_temperature(0.1, normalize=True), 64.4),
            (_temperature(0.5, normalize=True), 60.7),
            (_temperature(1, normalize=True), 58.0),
            (_temperature(10, normalize=False), 57.2),
            (_temperature(100, normalize=False), 57.0),
        ],
    ),
    _table(
        "Table B.1",
        "ImageNet, ResNet-50, linear evaluation, 100 epochs",
        {"batch_size", "optimizer.scaling"},
        [
            (_batch(256, "linear"), 57.5),
            (_batch(256, "sqrt"), 62.8),
            (_batch(4096, "linear"), 64.6),
            (_batch(4096, "sqrt"), 64.5),
        ],
    ),
    _table(
        "Table 6",
        LONG,
        {"encoder.width"},
        [({"encoder.width": 1}, 69.3), ({"encoder.width": 2}, 74.2), ({"encoder.width": 4}, 76.5)],
    ),
)

HEADS = (
    "Fig. 8: a non-linear head (2 layers) is better than a linear one (1 layer) by about 3 points, and better than none"
    " (0 layers) by more than 10."
)

# What a single model's top-1 may be set beside.
LANDMARKS = (
    ("B.9", "CIFAR-10, ResNet-50, linear evaluation, batch 1024, 1000 epochs", 94.0),
    ("B.9, supervised", "CIFAR-10, ResNet-50 trained with all labels", 95.1),
    ("Table 1", f"{DEFAULT}, strength 1 with blur", 64.5),
    ("Table 6", LONG, 69.3),
)


def table_of(varied: Sequence[str]) -> Table | None:
    """The table that varies the same fields as a grid does: one of them at least, and no other."""
    for table in TABLES:
        if varied and table.varies.issuperset(varied):
            return table
    return None


def fields_of(recipe: Mapping[str, Any], values: Fields) -> Fields:
    """A pretraining recipe's fields by path, with a cell's values over them; `blur` says whether views are blurred."""
    flat: dict[str, Any] = {}
    for name, value in recipe.items():
        nested = value.items() if isinstance(value, Mapping) else ()
        flat |= {f"{name}.{key}": inner for key, inner in nested} or {name: value}
    flat |= values
    blurs = "blur" in (flat.get("augmentation.operations") or ()) and flat.get("augmentation.blur_probability", 0) > 0
    return {**flat, "blur": blurs}
