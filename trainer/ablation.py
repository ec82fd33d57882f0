"""Ablations go on by their children: a pretraining job for each combination and seed, then a probe of its model.

    queued -> running: the pretraining jobs are queued
    running: a pretraining job succeeded -> its probe is queued
    all have ended -> succeeded with the table of what there is, or failed if there is nothing

An ablation has no process and no place; the scheduler's leader looks at it. Each look is a function of the rows, so it
doesn't matter which leader takes it, or how often. A model that is deleted meanwhile is missing from the table.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import structlog
from sqlalchemy import Connection, func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from models.ablation import AblationRecipe
from service.core import jobs
from service.core.ablation_table import PRETRAIN, PROBE, children_of, table_of
from service.core.db import AWAY
from service.core.errors import Conflict, ServiceError
from service.core.tables import ENDED, Job, Model

BROKEN = (ValueError, LookupError, TypeError, ServiceError, DBAPIError)  # what comes of rows of another release

logger: structlog.stdlib.BoundLogger = structlog.get_logger()


def advance_ablations(connection: Connection) -> None:
    """Take every unfinished ablation one step further, each in a transaction of its own.

    One whose rows say what nobody can do fails alone: all other jobs are placed by who looks at it.
    """
    unfinished = select(Job.id).where(Job.kind == "ablation", Job.status.not_in(ENDED))
    with Session(connection) as session, session.begin():
        ids = session.scalars(unfinished.order_by(Job.priority_at, Job.id)).all()
    for id_ in ids:
        try:
            with Session(connection) as session, session.begin():
                _look(session, id_)
        except AWAY:
            raise
        except BROKEN as error:
            logger.exception("an ablation can't go on", job_id=id_)
            with Session(connection) as session, session.begin():
                _give_up(session, id_, f"it can't go on: {error}")


def _look(session: Session, id_: str) -> None:
    ablation = _hold(session, id_)
    if ablation is None:
        return
    if ablation.status == "queued":
        _fan_out(session, ablation)
    elif _num_ended(session, ablation) != (ablation.progress or {}).get("step"):  # else there is nothing new
        _advance(session, ablation)


def _give_up(session: Session, id_: str, why: str) -> None:
    ablation = _hold(session, id_)
    if ablation is not None:
        for child in children_of(session, id_):
            if child.status not in ENDED:
                with suppress(Conflict):  # it has just ended
                    jobs.request_cancel(session, child.id)
        started = jobs.start(session, ablation) if ablation.status == "queued" else ablation
        jobs.fail(session, started, "broken", why)


def _hold(session: Session, id_: str) -> Job | None:
    """The ablation, locked; None if it has ended or someone else holds it."""
    held = select(Job).where(Job.id == id_, Job.status.not_in(ENDED)).with_for_update(skip_locked=True)
    return session.scalars(held).one_or_none()


def _fan_out(session: Session, ablation: Job) -> None:
    """Queue the pretraining jobs; of an ablation that is resumed, those that failed or were cancelled."""
    children = children_of(session, ablation.id)
    for child in children:
        if child.status in {"failed", "cancelled"}:
            with suppress(Conflict):  # its model was deleted
                jobs.resume(session, child.id)
    recipe = AblationRecipe.model_validate(ablation.recipe)
    if not children:
        for cell in recipe.cells():
            for seed in recipe.seeds:
                fields = recipe.recipe(cell, seed).model_dump(mode="json")
                _submit(session, ablation, PRETRAIN, fields, {"values": cell, "seed": seed})
    jobs.start(session, ablation)
    ablation.progress = None  # the next look counts anew, also where nothing could be queued


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
    probed = [child.cell for child in children if child.kind == PROBE]
    made = {
        str(child.result["model_id"]): child.cell
        for child in children
        if child.kind == PRETRAIN and child.status == "succeeded" and child.result and child.cell not in probed
    }
    kept = select(Model.id).where(Model.id.in_(made)).with_for_update(key_share=True, read=True)  # until they are named
    still_there = set(session.scalars(kept))
    recipe = ablation.recipe["probe"]
    return [
        _submit(session, ablation, PROBE, recipe, cell, model_id)
        for model_id, cell in made.items()
        if model_id in still_there
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
    table = table_of(AblationRecipe.model_validate(ablation.recipe), children, is_final=True)
    if table["num_missing"] == _num_runs(ablation):
        missing = [run for cell in table["cells"] for run in cell["missing"]]
        causes = {run["error"]["code"] if run["error"] else run["status"] for run in missing}
        jobs.fail(session, ablation, "nothing_measured", f"none of its runs succeeded: {', '.join(sorted(causes))}")
    else:
        jobs.succeed(session, ablation, table)
