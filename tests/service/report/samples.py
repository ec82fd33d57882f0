"""Reports of each kind of job as the API gives them, with numbers that a test can follow."""

import copy
import math
from typing import Any

from models.ablation import AblationRecipe
from models.config import PretrainRecipe, pretrain_recipe

JSON = dict[str, Any]

RECIPE = PretrainRecipe.model_validate(pretrain_recipe({"preset": "cpu-small"})).model_dump(mode="json")
PLACED = [{"node": "node-a", "slot": "cpu", "num_processes": 1, "device": "2 cores"}]


def report(kind: str, result: JSON | None = None, **fields: Any) -> JSON:
    """A report of a job of a kind; without a result it is running."""
    started, ended = "2026-11-23T10:00:00Z", "2026-11-23T10:04:00Z" if result else None
    status = "succeeded" if result else "running"
    job = {
        "id": "job_1",
        "kind": kind,
        "status": status,
        "dataset_id": "ds_1",
        "model_id": "mdl_1",
        "recipe": {"seed": 7},
        "resources": {"device": "auto"},
        "metadata": {},
        "parent_id": None,
        "cell": None,
        "attempt": 1,
        "progress": None,
        "result": result,
        "error": None,
        "created_at": started,
        "started_at": started,
        "finished_at": ended,
        "eta_seconds": None,
    }
    dataset = {
        "id": "ds_1",
        "name": "pets",
        "status": "ready",
        "num_images": 6000,
        "classes": ["cat", "dog"],
        "splits": {"test": {"num_images": 1000}, "train": {"num_images": 5000}},
    }
    model = {"id": "mdl_1", "recipe": RECIPE, "parity_cosine": 0.99999, "layers": {"h": 128}, "probes": {}}
    attempt = {"attempt": 1, "started_at": started, "ended_at": ended, "status": status, "reason": None}
    return {
        "job": {**job, **fields.pop("job", {})},
        "dataset": dataset,
        "model": model,
        "attempts": [{**attempt, "processes": PLACED}],
        "warnings": [],
        "metrics": None,
        "table": None,
        **fields,
    }


def pretrain() -> JSON:
    """Of 200 steps, measured every tenth; an attempt was lost after step 120 and went on from step 100."""
    steps = [*range(1, 121), *range(101, 201)]
    attempts = [1] * 120 + [2] * 100
    losses = [
        5 * math.exp(-step / 100) + (10 if attempt == 1 and step > 100 else 0)
        for step, attempt in zip(steps, attempts, strict=True)
    ]
    seldom = [step % 10 == 0 for step in steps]

    def measured(of_step: Any) -> list[float | None]:
        return [of_step(step) if is_measured else None for step, is_measured in zip(steps, seldom, strict=True)]

    metrics = {
        "step": steps,
        "loss": losses,
        "images_per_second": [900.0 + step for step in steps],
        "contrastive_accuracy": measured(lambda step: step / 250),
        "entropy": measured(lambda step: 6 - step / 100),
        "alignment": measured(lambda step: 1 - step / 400),
        "uniformity": measured(lambda step: -step / 100),
        "effective_rank_h": measured(lambda step: 20 + step / 10),
        "effective_rank_z": measured(lambda step: 10 + step / 20),
        "attempt": attempts,
    }
    result = {
        "steps": 200,
        "seconds": 237.5,
        "loss": 0.6789,
        "images_per_second": 766.4,
        "measures": {"contrastive_accuracy": 0.812, "entropy": 3.21, "alignment": 0.51, "uniformity": -2.2},
        "model_id": "mdl_1",
    }
    made = report("pretrain", result, metrics=metrics)
    made["job"]["recipe"] = RECIPE
    lost = {**made["attempts"][0], "status": "queued", "reason": "rank_killed"}
    made["attempts"] = [lost, {**made["attempts"][0], "attempt": 2}]
    made["model"]["probes"] = {"linear_probe": {"top1": 0.501, "num_test": 1000, "job_id": "job_9"}}
    return made


def linear_probe(classes: tuple[str, ...] = ("cat", "dog", "eel")) -> JSON:
    """Of three classes: 8, 6 and 7 of 10 images are recognised."""
    confusion = [[8, 1, 1], [3, 6, 1], [0, 3, 7]]
    result = {
        "layer": "h",
        "l2": 0.01,
        "num_train": 5000,
        "num_test": 30,
        "test_split": "test",
        "top1": 0.7,
        "confidence_interval": [0.533, 0.867],
        "classes": list(classes),
        "per_class": dict(zip(classes, (0.8, 0.6, 0.7), strict=True)),
        "confusion": confusion,
        "seconds": 12.5,
    }
    return report("linear_probe", result)


def layer_sweep() -> JSON:
    """Layers in an order that is not the network's."""
    names = ("z", "h", "layer10.0", "layer2.1", "stem", "g1")
    rows = [
        {
            "layer": name,
            "size": 64,
            "linear_top1": 0.3 + number / 100,
            "confidence_interval": [0.28 + number / 100, 0.33 + number / 100],
            "l2": 0.1,
            "knn_top1": 0.2 + number / 100,
            "effective_rank": 10.0 + number,
            "alignment": 0.5,
            "uniformity": -2.0,
        }
        for number, name in enumerate(names)
    ]
    result = {"layers": rows, "k": 200, "temperature": 0.1, "num_train": 5000, "num_test": 1000}
    return report("layer_sweep", {**result, "test_split": "held_out", "num_view_images": 1000, "seconds": 80.0})


def transform_probe() -> JSON:
    """Colour and rotation in h and z."""
    values = [("color", "h", 0.98, 0.5, 0.993, 0.8), ("color", "z", 0.9, 0.5, 0.974, 0.8)]
    values += [("rotation", "h", 0.61, 0.25, 0.676, 0.25), ("rotation", "z", 0.3, 0.25, 0.256, 0.25)]
    names = ("transformation", "layer", "accuracy", "chance", "paper", "paper_chance")
    rows: list[JSON] = [dict(zip(names, row, strict=True)) for row in values]
    rows = [{**row, "confidence_interval": [row["accuracy"] - 0.02, row["accuracy"] + 0.01]} for row in rows]
    result = {"rows": rows, "num_train": 5000, "num_test": 1000, "test_split": "test", "seconds": 60.0}
    return report("transform_probe", result)


def ablation(grid: dict[str, list[Any]], seeds: tuple[int, ...] = (0, 1)) -> JSON:
    """A grid in which cell i has top-1 of (10 + i)% with seed 0 and a point more with seed 1; all are there."""
    recipe = AblationRecipe.model_validate({"grid": grid, "seeds": seeds, "base": {"preset": "cpu-small"}})
    cells = [_cell(values, number, seeds) for number, values in enumerate(recipe.cells())]
    table = {"fields": grid, "cells": cells, "best": cells[-1]["values"], "num_missing": 0}
    made = report("ablation", copy.deepcopy(table), table=table, model=None)
    made["job"]["recipe"] = recipe.model_dump(mode="json")
    return made


def _cell(values: JSON, number: int, seeds: tuple[int, ...]) -> JSON:
    runs = [
        {
            "seed": seed,
            "top1": 0.1 + number / 100 + seed / 100,
            "confidence_interval": [0.1, 0.14],
            "num_test": 1000,
            "test_split": "test",
            "measures": {"contrastive_accuracy": 0.875, "entropy": 4.5},
            "job_id": "job_2",
            "probe_job_id": "job_3",
            "model_id": "mdl_2",
        }
        for seed in seeds
    ]
    mean = 0.1 + number / 100 + sum(seeds) / len(seeds) / 100
    return {"values": values, "runs": runs, "missing": [], "mean": mean, "std": 0.0071 if len(seeds) > 1 else None}


def lose(made: JSON, number: int, message: str = "the loss is NaN") -> JSON:
    """The same ablation with a cell of which nothing is there."""
    cell = made["table"]["cells"][number]
    error = {"code": "non_finite_loss", "message": message}
    missing = [{"seed": run["seed"], "job_id": "job_4", "status": "failed", "error": error} for run in cell["runs"]]
    cell |= {"runs": [], "missing": missing, "mean": None, "std": None}
    return made


TWO_FIELDS = {"loss.normalize": [True, False], "loss.temperature": [0.1, 1.0, 10.0]}
FIG_5 = {
    "augmentation.operations": [
        ["crop", "color_jitter"],
        ["crop", "color_jitter", "blur"],
        ["crop", "blur", "color_jitter"],
        ["crop", "blur"],
    ],
    "augmentation.branches": ["one"],
}
ALL = {
    "pretrain": pretrain,
    "linear_probe": linear_probe,
    "layer_sweep": layer_sweep,
    "transform_probe": transform_probe,
    "ablation": lambda: ablation(TWO_FIELDS),
}
