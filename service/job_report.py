"""All of a job in one document, from its rows."""

from collections import defaultdict
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from models.ablation import AblationRecipe
from service.core.ablation_table import children_of, table_of
from service.core.tables import Dataset, Job, JobEvent, Model, Node, Placement
from service.descriptions import describe_datasets, describe_models
from service.metrics import read_metrics
from service.schemas.jobs import JobOut
from service.schemas.reports import Attempt, Processes, Report

MAX_POINTS = 1000  # of a curve: more than a picture has pixels


def read_report(session: Session, job: Job) -> Report:
    """The report of a job, finished or not."""
    dataset = session.get(Dataset, job.dataset_id) if job.dataset_id else None
    model_id = (job.result or {}).get("model_id") or job.model_id
    model = session.get(Model, model_id) if model_id else None
    return Report(
        job=JobOut.model_validate(job),
        dataset=describe_datasets(session, [dataset])[0] if dataset else None,
        model=describe_models(session, [model])[0] if model else None,
        attempts=_attempts(session, job),
        warnings=[event.data for event in _events(session, job, "warning")],
        metrics=read_metrics(session, job.id, MAX_POINTS) if job.kind == "pretrain" else None,
        table=_table(session, job) if job.kind == "ablation" else None,
    )


def _table(session: Session, job: Job) -> dict[str, Any]:
    return job.result or table_of(AblationRecipe.model_validate(job.recipe), children_of(session, job.id))


def _events(session: Session, job: Job, type_: str) -> list[JobEvent]:
    statement = select(JobEvent).where(JobEvent.job_id == job.id, JobEvent.type == type_)
    return list(session.scalars(statement.order_by(JobEvent.id)))


def _attempts(session: Session, job: Job) -> list[Attempt]:
    """Each `running` event begins one; the next event that isn't `cancelling` ends it."""
    processes = _processes(session, job)
    attempts: dict[int, Attempt] = {}
    for event in _events(session, job, "status"):
        status, attempt = event.data["status"], attempts.get(event.attempt)
        if attempt is None and status == "running":
            attempts[event.attempt] = Attempt(
                attempt=event.attempt,
                started_at=event.at,
                ended_at=None,
                status=status,
                reason=None,
                processes=processes[event.attempt],
            )
        elif attempt is not None and attempt.ended_at is None:
            attempt.status, attempt.reason = status, event.data.get("reason")
            attempt.ended_at = None if status == "cancelling" else event.at
    return list(attempts.values())


def _processes(session: Session, job: Job) -> dict[int, list[Processes]]:
    """By attempt, in the order of the nodes' ranks."""
    statement = select(Placement, Node).outerjoin(Node, Node.name == Placement.node_name)
    rows = session.execute(
        statement.where(Placement.job_id == job.id).order_by(Placement.attempt, Placement.node_rank)
    ).all()
    found: dict[int, list[Processes]] = defaultdict(list)
    for placement, node in rows:
        found[placement.attempt].append(
            Processes(
                node=placement.node_name,
                slot=placement.slot,
                num_processes=placement.num_slots,
                device=_device(node.devices, placement.slot) if node else None,
            )
        )
    return found


def _device(devices: dict[str, Any], slot: str) -> str | None:
    """What trainer/devices.py found there."""
    if slot == "cuda" and devices.get("cuda"):
        return str(devices["cuda"][0]["name"])
    if slot == "cpu" and "cpu" in devices:
        return f"{devices['cpu']['num_cores']} cores"
    return None
