"""Placement rows: which nodes run which attempt of a job, until when they are believed to, and whether they were told.

Whatever touches a job and its placement locks the job's row first. Slots are counted by kind: `cpu` and `cuda` for
training and probes, `light` for jobs that mostly wait or stream, or work in one thread.
"""

from contextlib import suppress

from sqlalchemy import ColumnElement, Text, cast, func, select, update
from sqlalchemy.dialects.postgresql import INTERVAL
from sqlalchemy.orm import Session

from service.core import jobs
from service.core.tables import Job, Node, Placement
from trainer.outcome import Loss, Lost, PeerLost, loss_as_json, loss_from_json

LIGHT_KINDS = ("ingest", "index", "map")
CLAIM_SECONDS = 30  # a message that no agent has answered for so long is sent again


def seconds(value: float) -> ColumnElement[object]:
    """An interval of the database."""
    return cast(f"{value} seconds", INTERVAL)


def is_alive(silence_seconds: float) -> ColumnElement[bool]:
    """Whether a node's heartbeat is fresh."""
    return Node.heartbeat_at > func.now() - seconds(silence_seconds)


def expire_leases(session: Session, *, lease_seconds: float, max_attempts: int) -> None:
    """End the placements whose agent is silent, and give back the jobs placed on a node that died unclaimed.

    With the first node's the attempt is lost. Of another node its agent hears, and ends the attempt in its own time.
    """
    is_open = Placement.ended_at.is_(None)
    silent = (is_open, Placement.claimed_at.is_not(None), Placement.lease_until < func.now())
    for job in _held_where(session, *silent):
        of_attempt = Placement.job_id == job.id, Placement.attempt == job.attempt
        for row in session.scalars(select(Placement).where(*of_attempt, *silent).order_by(Placement.node_rank.desc())):
            loss = Lost("node_lost", f"the node {row.node_name} fell silent")
            report_loss(session, row.token, loss)
            job = jobs.leave(session, job, row.token)  # noqa: PLW2901  # the same job, moved on
            if row.node_rank == 0 and job.status == "running":
                jobs.lose(session, job, loss.reason, loss.message, max_attempts=max_attempts)
    alive = select(Node.name).where(is_alive(lease_seconds))
    for job in _held_where(session, is_open, Placement.claimed_at.is_(None), Placement.node_name.not_in(alive)):
        jobs.requeue(session, job, "node_lost")


def _held_where(session: Session, *conditions: ColumnElement[bool]) -> list[Job]:
    """The jobs with such a placement, held; the condition is looked at again under the job's lock."""
    statement = select(Placement.job_id, Placement.attempt).where(*conditions).distinct()
    held = []
    for job_id, attempt in session.execute(statement).all():
        with suppress(jobs.Fenced):  # its agent has ended it since, or is writing to it
            job = jobs.hold(session, job_id, attempt, unless_locked=True)
            if session.execute(statement.where(Placement.job_id == job_id, Placement.attempt == attempt)).first():
                held.append(job)
    return held


def report_loss(session: Session, token: str, loss: Loss) -> None:
    """Note why the processes of a placement ended."""
    session.execute(update(Placement).where(Placement.token == token).values(loss=loss_as_json(loss)))


def loss_of_others(session: Session, job_id: str, attempt: int) -> Loss | None:
    """The first loss that another node than the first has reported of an attempt, a cause before a consequence."""
    is_consequence = Placement.loss["kind"].astext == PeerLost.__name__
    statement = select(Placement.loss).where(
        Placement.job_id == job_id, Placement.attempt == attempt, Placement.node_rank > 0, Placement.loss.is_not(None)
    )
    fields = session.scalar(statement.order_by(is_consequence, Placement.ended_at).limit(1))
    return None if fields is None else loss_from_json(fields)


def renew_unclaimed_tokens(session: Session) -> None:
    """Have the messages sent again that no agent has answered; the first ones become worthless."""
    session.execute(
        update(Placement)
        .where(
            Placement.ended_at.is_(None),
            Placement.claimed_at.is_(None),
            Placement.sent_at < func.now() - seconds(CLAIM_SECONDS),
        )
        .values(token=cast(func.gen_random_uuid(), Text), sent_at=None)
    )


def unsent(session: Session) -> list[Placement]:
    """The placements whose node hasn't been told."""
    statement = select(Placement).where(Placement.ended_at.is_(None), Placement.sent_at.is_(None))
    return list(session.scalars(statement.order_by(Placement.created_at)))


def mark_sent(session: Session, token: str) -> None:
    """Note that the message with this token is in the broker."""
    session.execute(update(Placement).where(Placement.token == token).values(sent_at=func.now()))


def claim(session: Session, job_id: str, attempt: int, token: str, *, lease_seconds: float) -> tuple[Job, Placement]:
    """Become the agent of a placement. Raises Fenced if the token is stale or was claimed before.

    The leases of a gang's other nodes are their agents' own.
    """
    job = jobs.hold(session, job_id, attempt)
    placement = session.scalar(
        update(Placement)
        .where(
            Placement.job_id == job_id,
            Placement.attempt == attempt,
            Placement.token == token,
            Placement.claimed_at.is_(None),
            Placement.ended_at.is_(None),
        )
        .values(claimed_at=func.now(), lease_until=func.now() + seconds(lease_seconds))
        .returning(Placement)
    )
    if placement is None:
        raise jobs.Fenced(f"the token for attempt {attempt} of {job_id} is stale")
    return job, placement


def renew_lease(session: Session, token: str, *, lease_seconds: float) -> int:
    """Extend the agent's lease; the number of its events that are stored. Raises Fenced if the placement ended."""
    num_relayed: int | None = session.scalar(
        update(Placement)
        .where(Placement.token == token, Placement.ended_at.is_(None))
        .values(lease_until=func.now() + seconds(lease_seconds))
        .returning(Placement.num_relayed)
    )
    if num_relayed is None:
        raise jobs.Fenced("the placement has ended")
    return num_relayed


def count_relayed(session: Session, token: str, num_relayed: int) -> None:
    """Note how many of the process's events are stored."""
    session.execute(update(Placement).where(Placement.token == token).values(num_relayed=num_relayed))
