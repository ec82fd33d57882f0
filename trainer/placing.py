"""Which queued jobs start, and on which nodes; and which running ones should have more of them."""

import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, exists, func, select, tuple_, update
from sqlalchemy.orm import Session

from service.core import jobs
from service.core.gang import Gang
from service.core.tables import Job, JobEvent, Node, Placement
from trainer.placement import LIGHT_KINDS, is_alive, seconds
from trainer.room import Room

SLOTS = ("cuda", "cpu", "light")
NO_NODES = "no_nodes"
PAGE = 100  # rows of the queue that are read at once
PATIENCE_SECONDS = 10  # then a job for which no nodes are there says so


def place_jobs(session: Session, *, lease_seconds: float) -> None:
    """Start queued jobs, oldest first, each on all the nodes that it needs or not at all; the freest nodes come first.

    A job that must wait keeps the nodes that it waits for: a later one may pass it on others only. So none starves, and
    none holds a part of what it needs.
    """
    nodes = _live_nodes(session, lease_seconds)
    for slot in SLOTS:
        room = Room.of(session, nodes, slot)
        for waiting in _queue(session, nodes, slot) if room.is_left() else ():
            gang = Gang.of(waiting.resources, waiting.recipe)
            if not (chosen := room.choose(gang)):
                room.keep_for(gang)
            elif job := _locked_if_queued(session, waiting.id):
                room.take(chosen, gang.processes_per_node)
                _place(session, job, chosen, gang, slot, lease_seconds)
            if not room.is_left():
                break


def ask_to_grow(session: Session, *, lease_seconds: float, growth_seconds: float) -> None:
    """Ask a job that runs on fewer nodes than there are for it to give them back, so that it is placed on all.

    Only if nobody waits for these nodes, and if it has run, and will run, for so long that a restart pays. One job at a
    time: until it is placed again, the free nodes are its own.
    """
    nodes = _live_nodes(session, lease_seconds)
    for slot in ("cuda", "cpu"):
        room = Room.of(session, nodes, slot)
        if room.is_left() and not _is_awaited(session, nodes, slot):
            for candidate in _growable(session, slot, growth_seconds):
                gang = Gang.of(candidate.resources, candidate.recipe)
                if room.could_grow(gang, candidate.node_names):
                    job = session.get(Job, candidate.id, with_for_update={"skip_locked": True}, populate_existing=True)
                    if job is not None and (job.status, job.attempt) == ("running", candidate.attempt):
                        jobs.ask_to_yield(session, job)
                        return


def warn_of_missing_nodes(session: Session, *, lease_seconds: float) -> None:
    """Tell the jobs that wait for what isn't there, once each, what that is."""
    nodes = _live_nodes(session, lease_seconds)
    for slot in SLOTS:
        room = Room.of(session, nodes, slot)
        for waiting in _queue(session, nodes, slot, _waits_unwarned()):
            gang = Gang.of(waiting.resources, waiting.recipe)
            if message := room.what_is_missing(gang, slot):
                job = _locked_if_queued(session, waiting.id)
                if job is not None:
                    jobs.record_events(session, job, [("warning", {"code": NO_NODES, "message": message})])


def _live_nodes(session: Session, lease_seconds: float) -> Sequence[Node]:
    return session.scalars(select(Node).where(is_alive(lease_seconds)).order_by(Node.name)).all()


def _queue(session: Session, nodes: Sequence[Node], slot: str, *conditions: ColumnElement[bool]) -> Iterator[Row[Any]]:
    """The jobs that wait for slots of this kind, in order; read page by page, for as long as someone asks."""
    order = tuple_(Job.priority_at, Job.id)
    statement = select(Job.id, Job.priority_at, Job.resources, Job.recipe).where(Job.status == "queued", *conditions)
    statement = statement.where(_wants(slot, nodes)).order_by(order).limit(PAGE)
    page = session.execute(statement).all()
    while page:
        yield from page
        page = session.execute(statement.where(order > (page[-1].priority_at, page[-1].id))).all()


def _waits_unwarned() -> ColumnElement[bool]:
    """Whether a job has waited for long, and not been told that its nodes are missing."""
    is_told = exists().where(
        JobEvent.job_id == Job.id, JobEvent.type == "warning", JobEvent.data["code"].astext == NO_NODES
    )
    return (Job.priority_at < func.now() - seconds(PATIENCE_SECONDS)) & ~is_told


def _is_awaited(session: Session, nodes: Sequence[Node], slot: str) -> bool:
    """Whether someone waits for the free nodes: in the queue, or to be placed again on more."""
    yielding = exists().where(Job.status == "running", Job.asked_to_yield, _wants(slot, nodes))
    if session.scalar(select(yielding)):
        return True
    room = Room.of(session, nodes, slot)
    gangs = (Gang.of(waiting.resources, waiting.recipe) for waiting in _queue(session, nodes, slot))
    return any(room.choose(gang) or room.keep_for(gang) for gang in gangs)


def _wants(slot: str, nodes: Sequence[Node]) -> ColumnElement[bool]:
    """Whether a job runs in slots of this kind; `auto` is a GPU if any node has one."""
    if slot == "light":
        return Job.kind.in_(LIGHT_KINDS)
    auto_slot = "cuda" if any(node.slots.get("cuda") for node in nodes) else "cpu"
    device = func.coalesce(Job.resources["device"].astext, "auto")
    return and_(
        Job.kind.not_in((*LIGHT_KINDS, *jobs.FAMILY_KINDS)),
        device.in_((slot, "auto") if slot == auto_slot else (slot,)),
    )


def _locked_if_queued(session: Session, job_id: str) -> Job | None:
    """The job's row, unless someone cancels it just now."""
    statement = select(Job).where(Job.id == job_id, Job.status == "queued")
    return session.scalar(statement.with_for_update(skip_locked=True))


def _place(session: Session, job: Job, nodes: Sequence[Node], gang: Gang, slot: str, lease_seconds: float) -> None:
    """Start the job's next attempt; its processes, if they are several, meet at the first node."""
    job = jobs.start(session, job, [node.name for node in nodes])
    rendezvous: dict[str, Any] = {}
    if len(nodes) * gang.processes_per_node > 1:
        rendezvous = {"rendezvous_address": nodes[0].address, "rendezvous_port": nodes[0].rendezvous_port}
        nodes[0].rendezvous_port = None  # until its next heartbeat offers another; the row may be gone by now
        session.expunge(nodes[0])
        session.execute(update(Node).where(Node.name == nodes[0].name).values(rendezvous_port=None))
    session.add_all(
        Placement(
            job_id=job.id,
            attempt=job.attempt,
            node_rank=node_rank,
            node_name=node.name,
            slot=slot,
            num_slots=gang.processes_per_node,
            num_nodes=len(nodes),
            token=uuid.uuid4().hex,
            lease_until=func.now() + seconds(lease_seconds),
            **rendezvous,
        )
        for node_rank, node in enumerate(nodes)
    )
    session.flush()


def _growable(session: Session, slot: str, growth_seconds: float) -> Sequence[Row[Any]]:
    """The running jobs on fewer nodes than they may have that began long ago and have long to go, oldest first."""
    of_attempt = Placement.job_id == Job.id, Placement.attempt == Job.attempt, Placement.ended_at.is_(None)
    trains = exists().where(JobEvent.job_id == Job.id, JobEvent.attempt == Job.attempt, JobEvent.type == "metrics")
    statement = (
        select(Job.id, Job.attempt, Job.resources, Job.recipe, func.array_agg(Placement.node_name).label("node_names"))
        .join(Placement, and_(*of_attempt))
        .where(Job.status == "running", Placement.slot == slot, trains)
        .where(Job.resources["nodes"]["max"].as_integer() > Placement.num_nodes)
        .where(Job.progress["eta_seconds"].as_float() > growth_seconds)
        .group_by(Job.id)
        .having(func.max(Placement.claimed_at) < func.now() - seconds(growth_seconds))
    )
    return session.execute(statement.order_by(Job.priority_at, Job.id)).all()
