"""Ablations go on by their children: a pretraining job for each combination and seed, then a probe of its model.

    queued -> running: the pretraining jobs are queued
    running: a pretraining job succeeded -> its probe is queued
    all have ended -> succeeded with the table of what there is, or failed if there is nothing

An ablation has no process and no place; the scheduler's leader looks at it. Each look is a function of the rows, so it
doesn't matter which leader takes it, or how often.
"""

import statistics
from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from models.ablation import AblationRecipe
from service.core import jobs
from service.core.tables import ENDED, Job

PRETRAIN, PROBE = "pretrain", "linear_probe"
FIGURES = ("top1", "confidence_interval")  # of a probe's result


def advance_ablations(session: Session) -> None:
    """Take every unfinished ablation one step further, but for those that someone else holds."""
    unfinished = select(Job).where(Job.kind == "ablation", Job.status.not_in(ENDED)).order_by(Job.priority_at, Job.id)
    for ablation in session.scalars(unfinished.with_for_update(skip_locked=True)).all():
        if ablation.status == "queued":
            _fan_out(session, ablation)
        elif _num_ended(session, ablation) != (ablation.progress or {}).get("step"):  # else there is nothing new
            _advance(session, ablation)


def _fan_out(session: Session, ablation: Job) -> None:
    """Queue the pretraining jobs; of an ablation that is resumed, those that failed or were cancelled."""
    children = _children(session, ablation)
    for child in children:
        if child.status in {"failed", "cancelled"}:
            jobs.resume(session, child.id)
    recipe = AblationRecipe.model_validate(ablation.recipe)
    if not children:
        for cell in recipe.cells():
            for seed in recipe.seeds:
                fields = recipe.recipe(cell, seed).model_dump(mode="json")
                _submit(session, ablation, PRETRAIN, fields, {"values": cell, "seed": seed})
    jobs.start(session, ablation)


def _advance(session: Session, ablation: Job) -> None:
    children = _children(session, ablation)
    if ablation.status == "running":
        children = [*children, *_probes_to_come(session, ablation, children)]
    num_ended = sum(child.status in ENDED for child in children)
    ablation.progress = {"step": num_ended, "steps": 2 * _num_runs(ablation)}
    jobs.record_events(session, ablation, [("metrics", ablation.progress)])
    if num_ended == len(children):
        _end(session, ablation, children)


def _probes_to_come(session: Session, ablation: Job, children: Sequence[Job]) -> list[Job]:
    """Queue the probes of models that are there by now."""
    probed = {child.model_id for child in children if child.kind == PROBE}
    made = {
        str(child.result["model_id"]): child.cell
        for child in children
        if child.kind == PRETRAIN and child.status == "succeeded" and child.result
    }
    recipe = ablation.recipe["probe"]
    return [
        _submit(session, ablation, PROBE, recipe, cell, model_id)
        for model_id, cell in made.items()
        if model_id not in probed
    ]


def _submit(
    session: Session, ablation: Job, kind: str, recipe: dict[str, Any], cell: Any, model_id: str | None = None
) -> Job:
    resources = ablation.resources if kind == PRETRAIN else {"device": ablation.resources.get("device", "auto")}
    return jobs.submit(
        session,
        kind=kind,
        recipe=recipe,
        dataset_id=ablation.dataset_id,
        model_id=model_id,
        resources=resources,
        parent_id=ablation.id,
        cell=cell,
    )


def _num_ended(session: Session, ablation: Job) -> int:
    ended = select(func.count()).where(Job.parent_id == ablation.id, Job.status.in_(ENDED))
    return session.scalars(ended).one()


def _children(session: Session, ablation: Job) -> Sequence[Job]:
    children = select(Job).where(Job.parent_id == ablation.id).order_by(Job.created_at, Job.id)
    return session.scalars(children.execution_options(populate_existing=True)).all()


def _num_runs(ablation: Job) -> int:
    recipe = AblationRecipe.model_validate(ablation.recipe)
    return len(recipe.cells()) * len(recipe.seeds)


def _end(session: Session, ablation: Job, children: Sequence[Job]) -> None:
    if ablation.status == "cancelling":
        jobs.cancel(session, ablation)
        return
    table = table_of(AblationRecipe.model_validate(ablation.recipe), children)
    if table["num_missing"] == _num_runs(ablation):
        causes = {child.error["code"] for child in children if child.error} or {"cancelled"}
        jobs.fail(session, ablation, "nothing_measured", f"none of its runs succeeded: {', '.join(sorted(causes))}")
    else:
        jobs.succeed(session, ablation, table)


def table_of(recipe: AblationRecipe, children: Sequence[Job]) -> dict[str, Any]:
    """What the children measured: a row a combination, in the grid's order, and what is missing.

    {"fields": {field: values}, "cells": [{"values", "runs": [{"seed", "top1", "confidence_interval", "measures",
    "job_id", "probe_job_id", "model_id"}], "missing": [{"seed", "job_id", "status", "error"}], "mean", "std"}],
    "best", "num_missing"}. `measures` are those at the end of pretraining (trainer/monitor.py), Table 5's contrastive
    accuracy and entropy among them; `std` is of the sample, null for a single run; `best` are the values of the highest
    mean, on the split that the probes were scored on: a description, not a choice that was validated elsewhere.
    """
    cells = [_cell(values, recipe.seeds, _of(values, children)) for values in recipe.cells()]
    measured = [cell for cell in cells if cell["mean"] is not None]
    return {
        "fields": recipe.grid,
        "cells": cells,
        "best": max(measured, key=lambda cell: cell["mean"])["values"] if measured else None,
        "num_missing": sum(len(cell["missing"]) for cell in cells),
    }


def _of(values: dict[str, Any], children: Sequence[Job]) -> list[Job]:
    return [child for child in children if child.cell and child.cell["values"] == values]


def _cell(values: dict[str, Any], seeds: Sequence[int], children: Sequence[Job]) -> dict[str, Any]:
    runs: list[dict[str, Any]] = []
    missing: list[dict[str, Any]] = []
    for seed in seeds:
        of_seed = {child.kind: child for child in children if child.cell and child.cell["seed"] == seed}
        last = of_seed.get(PROBE, of_seed.get(PRETRAIN))
        if last is not None and last.kind == PROBE and last.status == "succeeded" and last.result:
            run = {"seed": seed, "job_id": of_seed[PRETRAIN].id, "probe_job_id": last.id, "model_id": last.model_id}
            measures = (of_seed[PRETRAIN].result or {}).get("measures", {})
            runs.append({**run, **{name: last.result[name] for name in FIGURES}, "measures": measures})
        elif last is not None:
            missing.append({"seed": seed, "job_id": last.id, "status": last.status, "error": last.error})
    top1 = [run["top1"] for run in runs]
    return {
        "values": values,
        "runs": runs,
        "missing": missing,
        "mean": statistics.mean(top1) if top1 else None,
        "std": statistics.stdev(top1) if len(top1) > 1 else None,
    }
