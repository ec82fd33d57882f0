"""Ablations go on by their children: a pretraining job for each combination and seed, then a probe of its model.

    queued -> running: the pretraining jobs are queued
    running: a pretraining job succeeded -> its probe is queued
    all have ended -> succeeded with the table of what there is, or failed if there is nothing

An ablation has no process and no place; the scheduler's leader looks at it. Each look is a function of the rows, so it
doesn't matter which leader takes it, or how often.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from models.ablation import AblationRecipe
from service.core import jobs
from service.core.ablation_table import PRETRAIN, PROBE, children_of, table_of
from service.core.tables import ENDED, Job


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
    children = children_of(session, ablation.id)
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
    children = children_of(session, ablation.id)
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
        tenant=ablation.tenant,
        traceparent=ablation.traceparent,
    )


def _num_ended(session: Session, ablation: Job) -> int:
    ended = select(func.count()).where(Job.parent_id == ablation.id, Job.status.in_(ENDED))
    return session.scalars(ended).one()


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
