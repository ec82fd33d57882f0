"""What the jobs of an ablation have measured, as a table: at its end its result, before that what there is so far."""

import statistics
from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from models.ablation import AblationRecipe
from service.core.tables import Job

PRETRAIN, PROBE = "pretrain", "linear_probe"
MODEL_DELETED = {"code": "model_deleted", "message": "its model was deleted before it was probed"}
FIGURES = ("top1", "confidence_interval", "num_test", "test_split", "held_out_top1")  # of a probe's result


def children_of(session: Session, ablation_id: str) -> Sequence[Job]:
    """The jobs of an ablation as they stand in the database, oldest first."""
    children = select(Job).where(Job.parent_id == ablation_id).order_by(Job.created_at, Job.id)
    return session.scalars(children.execution_options(populate_existing=True)).all()


def table_of(recipe: AblationRecipe, children: Sequence[Job], *, is_final: bool = False) -> dict[str, Any]:
    """What the children measured: a row a combination, in the grid's order, and what is missing; `is_final` at its end.

    {"fields": {field: values}, "cells": [{"values", "runs": [{"seed", "top1", "confidence_interval", "num_test",
    "test_split", "held_out_top1", "measures", "job_id", "probe_job_id", "model_id"}], "missing": [{"seed", "job_id",
    "status", "error"}], "mean", "std", "held_out_mean"}], "best", "num_missing"}. `measures` are those at the end of
    pretraining (trainer/monitor.py), Table 5's contrastive accuracy and entropy among them; `std` is of the sample,
    null for a single run. `best` are the values of the highest mean on the training images that the probes held out:
    a choice that the test images have no part in. It is null where the probes' protocol holds none out.
    """
    cells = [_cell(values, recipe.seeds, _of(values, children), is_final) for values in recipe.cells()]
    return {
        "fields": recipe.grid,
        "cells": cells,
        "best": _best(cells),
        "num_missing": sum(len(cell["missing"]) for cell in cells),
    }


def _best(cells: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    chosen_from = [cell for cell in cells if cell["held_out_mean"] is not None]
    if not chosen_from:
        return None
    values: dict[str, Any] = max(chosen_from, key=lambda cell: cell["held_out_mean"])["values"]
    return values


def _of(values: dict[str, Any], children: Sequence[Job]) -> list[Job]:
    return [child for child in children if child.cell and child.cell["values"] == values]


def _cell(
    values: dict[str, Any],
    seeds: Sequence[int],
    children: Sequence[Job],
    is_final: bool,  # noqa: FBT001  # handed on
) -> dict[str, Any]:
    runs: list[dict[str, Any]] = []
    missing: list[dict[str, Any]] = []
    for seed in seeds:
        of_seed = {child.kind: child for child in children if child.cell and child.cell["seed"] == seed}
        last = of_seed.get(PROBE, of_seed.get(PRETRAIN))
        if last is not None and last.kind == PROBE and last.status == "succeeded" and last.result:
            run = {"seed": seed, "job_id": of_seed[PRETRAIN].id, "probe_job_id": last.id, "model_id": last.model_id}
            measures = (of_seed[PRETRAIN].result or {}).get("measures", {})
            figures = {name: last.result.get(name) for name in FIGURES}
            runs.append({**run, **figures, "measures": measures})
        elif last is not None:
            was_deleted = is_final and last.status == "succeeded"  # pretraining that no probe can follow
            error = MODEL_DELETED if was_deleted else last.error
            missing.append({"seed": seed, "job_id": last.id, "status": last.status, "error": error})
    top1 = [run["top1"] for run in runs]
    held_out = [run["held_out_top1"] for run in runs if run["held_out_top1"] is not None]
    return {
        "values": values,
        "runs": runs,
        "missing": missing,
        "mean": statistics.mean(top1) if top1 else None,
        "std": statistics.stdev(top1) if len(top1) > 1 else None,
        "held_out_mean": statistics.mean(held_out) if held_out else None,
    }
