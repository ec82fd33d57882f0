"""The jobs: their state machine and their events. Every change of a job's status is made in this file.

    submit ──> queued ──start──> running ──end──> succeeded, failed
                 │ ^               │ │
                 │ └────requeue────┘ └─request_cancel─> cancelling ──end──> cancelled
                 └─────────────request_cancel──────────────────────────────────^
    resume: failed, cancelled ──> queued

A change is a compare-and-set on (id, attempt, status), with its `status` event in the same transaction. Each start is a
new attempt; whoever acts for an earlier one is `Fenced`. All writers lock the job's row before they draw an event's id,
so that a job's events become visible in the order of their ids and a reader can go on from the last id that it saw.
"""

from collections.abc import Sequence
from enum import StrEnum, auto
from typing import Any, Self

from sqlalchemy import ColumnElement, delete, exists, func, null, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from service.core import tracing
from service.core.db import tenant_of
from service.core.errors import Conflict, NotFound
from service.core.ids import new_id
from service.core.tables import ENDED, Checkpoint, Dataset, DatasetRejection, Job, JobEvent, Placement

ACTIVE = ("running", "cancelling")
FAMILY_KINDS = ("ablation",)  # have no process: they run by their children
TRANSITIONS = {
    "queued": ("running", "cancelled"),
    "running": ("succeeded", "failed", "queued", "cancelling"),
    "cancelling": ("cancelled",),
    "succeeded": (),
    "failed": ("queued",),
    "cancelled": ("queued",),
}


class Fenced(RuntimeError):
    """The job has moved on: this attempt may not write to it any more."""


class Orders(StrEnum):
    """What an agent is to do with its process."""

    GO_ON = auto()
    YIELD = auto()  # checkpoint, end, give the job back
    CANCEL = auto()

    @classmethod
    def of(cls, status: str, asked_to_yield: bool) -> Self:  # noqa: FBT001  # the columns of a row
        """As the row of a job that is going on says."""
        if status == "cancelling":
            return cls.CANCEL
        return cls.YIELD if asked_to_yield else cls.GO_ON


def submit(
    session: Session,
    *,
    kind: str,
    recipe: dict[str, Any],
    dataset_id: str | None = None,
    model_id: str | None = None,
    resources: dict[str, Any] | None = None,
    metadata: dict[str, Any] | None = None,
    idempotency_key: str | None = None,
    request_sha256: str | None = None,
    parent_id: str | None = None,
    cell: dict[str, Any] | None = None,
    tenant: str | None = None,
    traceparent: str | None = None,
) -> Job:
    """Queue a job; with an idempotency key that its tenant used before, return the job that it made.

    The tenant need not be given where the session is bound to one, nor the trace where it is the current one.

    Raises Conflict (`idempotency_mismatch`) if the key was used for a request with another sha256.
    """
    tenant = tenant or tenant_of(session)
    statement = insert(Job).values(
        id=new_id("job"),
        tenant=tenant,
        kind=kind,
        recipe=recipe,
        dataset_id=dataset_id,
        model_id=model_id,
        resources=resources or {},
        metadata_=metadata or {},
        idempotency_key=idempotency_key,
        request_sha256=request_sha256,
        parent_id=parent_id,
        cell=null() if cell is None else cell,
        traceparent=traceparent or tracing.traceparent(),
    )
    unless_known = statement.on_conflict_do_nothing(index_elements=["tenant", "idempotency_key"])
    job = session.scalars(unless_known.returning(Job)).one_or_none()
    if job is not None:
        record_events(session, job, [("status", {"status": "queued"})])
        return job
    # The conflicting insert has committed by now: PostgreSQL waited for it.
    job = session.scalars(select(Job).where(Job.tenant == tenant, Job.idempotency_key == idempotency_key)).one()
    if job.request_sha256 != request_sha256:
        raise Conflict(
            f"the idempotency key {idempotency_key!r} was used for another request; use a new key",
            code="idempotency_mismatch",
        )
    return job


def request_cancel(session: Session, job_id: str) -> Job:
    """Cancel a job: at once if no process can be running for it, else by its agent, within about a second.

    Raises NotFound, or Conflict if it has ended.
    """
    job = _locked(session, job_id)
    if job.status in ENDED:
        raise Conflict(f"the job {job_id} has ended ({job.status}); only a queued or running job can be cancelled")
    if job.status == "queued":
        return _end(session, job, "cancelled")
    if job.status == "running":
        _move(session, job, "cancelling")
    if job.kind in FAMILY_KINDS:
        for child_id in session.scalars(select(Job.id).where(Job.parent_id == job_id, Job.status.not_in(ENDED))):
            request_cancel(session, child_id)
        return job  # it is cancelled when they are
    return job if _is_claimed(session, job) else _end(session, job, "cancelled")


def resume(session: Session, job_id: str) -> Job:
    """Queue a failed or cancelled job again; it goes on from its newest checkpoint.

    Raises NotFound, or Conflict if it has another status or what it works on was deleted.
    """
    job = _locked(session, job_id)
    if job.status not in {"failed", "cancelled"}:
        raise Conflict(f"the job {job_id} is {job.status}; only a failed or cancelled job can be resumed")
    needs_dataset = job.kind not in {"index", "map"}
    needs_model = job.kind not in {"pretrain", "ingest", *FAMILY_KINDS}
    if (needs_dataset and job.dataset_id is None) or (needs_model and job.model_id is None):
        raise Conflict(f"the data set or model of the job {job_id} was deleted")
    if job.kind == "ingest":
        session.execute(delete(DatasetRejection).where(DatasetRejection.dataset_id == job.dataset_id))
        session.execute(update(Dataset).where(Dataset.id == job.dataset_id).values(status="validating", error=null()))
    return _move(
        session,
        job,
        "queued",
        reason="resumed",
        attempts_without_progress=0,
        priority_at=func.now(),
        finished_at=None,
        error=null(),
    )


def hold(session: Session, job_id: str, attempt: int, *, unless_locked: bool = False) -> Job:
    """The job, locked until the transaction ends. Raises Fenced unless `attempt` is the one that is going on.

    With `unless_locked` it doesn't wait for another holder, but raises Fenced too.
    """
    job = session.get(Job, job_id, with_for_update={"skip_locked": unless_locked}, populate_existing=True)
    if job is None or job.attempt != attempt or job.status not in ACTIVE:
        raise Fenced(f"attempt {attempt} of {job_id} is over")
    return job


def orders(session: Session, job_id: str, attempt: int) -> Orders:
    """What is wanted of the attempt, without a lock. Raises Fenced as `hold` does."""
    columns = select(Job.status, Job.asked_to_yield)
    row = session.execute(columns.where(Job.id == job_id, Job.attempt == attempt, Job.status.in_(ACTIVE))).first()
    if row is None:
        raise Fenced(f"attempt {attempt} of {job_id} is over")
    return Orders.of(*row)


def start(session: Session, job: Job, nodes: Sequence[str] = ()) -> Job:
    """Begin the next attempt of a queued job whose row is locked, on the nodes of these names."""
    return _move(
        session,
        job,
        "running",
        about={"nodes": list(nodes)},
        attempt=job.attempt + 1,
        started_at=func.coalesce(Job.started_at, func.now()),
        asked_to_yield=False,
    )


def ask_to_yield(session: Session, job: Job) -> None:
    """Have a held job checkpoint at the end of a step and give its nodes back, to be placed again."""
    session.execute(update(Job).where(Job.id == job.id).values(asked_to_yield=True))


def succeed(session: Session, job: Job, result: dict[str, Any]) -> Job:
    """End a held job that is running."""
    return _end(session, job, "succeeded", result=result)


def fail(session: Session, job: Job, code: str, message: str) -> Job:
    """End a held job with an error; one that was to be cancelled is cancelled."""
    if job.status == "cancelling":
        return cancel(session, job)
    return _end(session, job, "failed", error={"code": code, "message": message})


def cancel(session: Session, job: Job) -> Job:
    """End a held job that was to be cancelled and whose processes are gone."""
    return _end(session, job, "cancelled")


def leave(session: Session, job: Job, token: str) -> Job:
    """Give back the slots of one node of a held job, which ends or goes on without it.

    A job that was to be cancelled is when its last node has left: then none of its processes is left either.
    """
    session.execute(update(Placement).where(Placement.token == token).values(ended_at=func.now()))
    if job.status == "cancelling" and not _is_claimed(session, job):
        return cancel(session, job)
    return job


def requeue(session: Session, job: Job, reason: str) -> Job:
    """Give a held job back to the queue, at its old place, through no fault of its own."""
    if job.status == "cancelling":
        return cancel(session, job)
    return _move(session, job, "queued", reason=reason)


def lose(session: Session, job: Job, reason: str, message: str, *, max_attempts: int) -> Job:
    """Give a held job back to the queue after its attempt broke; fail it at the last of `max_attempts`.

    Attempts count that made no progress which the next one keeps: a checkpoint, or vectors of an index job. One that
    did begins a new count.
    """
    if job.status == "cancelling":
        return cancel(session, job)
    num_attempts = 0 if _made_progress(session, job) else job.attempts_without_progress + 1
    if num_attempts >= max_attempts:
        return fail(session, job, reason, f"{message} ({num_attempts} attempts without progress)")
    return _move(session, job, "queued", reason=reason, attempts_without_progress=num_attempts)


def _made_progress(session: Session, job: Job) -> bool:
    stored = exists().where(Checkpoint.job_id == job.id, Checkpoint.attempt == job.attempt)
    of_attempt = JobEvent.job_id == job.id, JobEvent.attempt == job.attempt, JobEvent.type == "metrics"
    written = exists().where(*of_attempt, JobEvent.data["step"].as_integer() > 0)
    return bool(session.scalar(select(stored | written if job.kind == "index" else stored)))


def record_event(session: Session, job_id: str, attempt: int, type_: str, data: dict[str, Any]) -> None:
    """Add an event to a job. Raises Fenced as `hold` does."""
    record_events(session, hold(session, job_id, attempt), [(type_, data)])


def record_events(session: Session, job: Job, events: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """Add events to a held job, in order."""
    session.add_all(JobEvent(job_id=job.id, attempt=job.attempt, type=type_, data=data) for type_, data in events)
    session.flush()


def events_after(session: Session, job_id: str, after_id: int, limit: int) -> list[JobEvent]:
    """The next events of a job after the event `after_id` (0: from the first), oldest first."""
    statement = select(JobEvent).where(JobEvent.job_id == job_id, JobEvent.id > after_id)
    return list(session.scalars(statement.order_by(JobEvent.id).limit(limit)))


def log_key(job_id: str, attempt: int, node_rank: int) -> str:
    """Where the storage has what an attempt's process printed on one of its nodes."""
    node = f"-node-{node_rank}" if node_rank else ""
    return f"jobs/{job_id}/log-{attempt}{node}.txt"


def _locked(session: Session, job_id: str) -> Job:
    job = session.get(Job, job_id, with_for_update=True, populate_existing=True)
    if job is None:
        raise NotFound(f"there is no job {job_id}")
    return job


def _open_placements(job: Job) -> list[ColumnElement[bool]]:
    return [Placement.job_id == job.id, Placement.attempt == job.attempt, Placement.ended_at.is_(None)]


def _is_claimed(session: Session, job: Job) -> bool:
    """Whether an agent runs the job's attempt on some node."""
    return bool(session.scalar(select(exists().where(*_open_placements(job), Placement.claimed_at.is_not(None)))))


def _end(session: Session, job: Job, status: str, *, result: Any = None, error: Any = None) -> Job:
    """Move to a final status; the data set of an ingest job that didn't succeed is failed."""
    if job.kind == "ingest" and status != "succeeded":
        dataset_error = error or {"code": "cancelled", "message": "its ingest job was cancelled"}
        session.execute(
            update(Dataset).where(Dataset.id == job.dataset_id).values(status="failed", error=dataset_error)
        )
    return _move(
        session,
        job,
        status,
        reason=error and error["code"],
        finished_at=func.now(),
        result=null() if result is None else result,
        error=null() if error is None else error,
    )


def _move(
    session: Session,
    job: Job,
    status: str,
    *,
    reason: str | None = None,
    about: dict[str, Any] | None = None,
    **values: Any,
) -> Job:
    """The one place where a status changes; leaving `running` and `cancelling` frees the job's slots."""
    assert status in TRANSITIONS[job.status], (job.status, status)
    if job.status in ACTIVE and status not in ACTIVE:
        session.execute(update(Placement).where(*_open_placements(job)).values(ended_at=func.now()))
    moved = session.scalar(
        update(Job)
        .where(Job.id == job.id, Job.attempt == job.attempt, Job.status == job.status)
        .values(status=status, **values)
        .returning(Job)
        .execution_options(populate_existing=True, synchronize_session=False)
    )
    if moved is None:
        raise Fenced(f"the job {job.id} is no longer {job.status} in attempt {job.attempt}")
    because = {"reason": reason} if reason else {}
    record_events(session, moved, [("status", {"status": status} | because | (about or {}))])
    return moved
