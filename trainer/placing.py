"""Which queued jobs start, and on which nodes; and which running ones should have more of them."""

import uuid
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, exists, func, select
from sqlalchemy.orm import Session

from service.core import jobs
from service.core.gang import Gang
from service.core.tables import Job, JobEvent, Node, Placement
from trainer.placement import LIGHT_KINDS, is_alive, seconds
from trainer.room import Room

SLOTS = ("cuda", "cpu", "light")
LOOK_AHEAD = 100  # jobs of the queue that may pass one that waits
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
            if not room.is_left():
                break
            gang = Gang.of(waiting.resources, waiting.recipe)
            chosen = room.choose(gang)
            if not chosen:
                if not room.keep_for(gang):
                    _warn_once(session, waiting, gang, slot)
            elif job := _locked_if_queued(session, waiting.id):
                room.take(chosen, gang.processes_per_node)
                _place(session, job, chosen, gang, slot, lease_seconds)


def ask_to_grow(session: Session, *, lease_seconds: float, growth_seconds: float) -> None:
    """Ask a job that runs on fewer nodes than there are for it to give them back, so that it is placed on all.

    Only if nobody waits for these slots, and if it has run, and will run, for so long that a restart pays.
    """
    nodes = _live_nodes(session, lease_seconds)
    for slot in ("cuda", "cpu"):
        if not Room.of(session, nodes, slot).is_left() or _queue(session, nodes, slot):
            continue
        for job_id in _settled(session, slot, growth_seconds):
            job = session.scalar(select(Job).where(Job.id == job_id).with_for_update(skip_locked=True))
            if job is not None and job.status == "running" and _could_grow(session, job, nodes, slot):
                jobs.ask_to_yield(session, job)
                return  # one at a time: the next look sees what is left for others


def _live_nodes(session: Session, lease_seconds: float) -> Sequence[Node]:
    return session.scalars(select(Node).where(is_alive(lease_seconds)).order_by(Node.name)).all()


def _queue(session: Session, nodes: Sequence[Node], slot: str) -> Sequence[Row[Any]]:
    """The first jobs that wait for slots of this kind."""
    wanted = Job.status == "queued", _wants(slot, nodes)
    statement = select(Job.id, Job.resources, Job.recipe, Job.priority_at).where(*wanted)
    return session.execute(statement.order_by(Job.priority_at, Job.id).limit(LOOK_AHEAD)).all()


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
        nodes[0].rendezvous_port = None  # until its next heartbeat offers another
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


def _warn_once(session: Session, waiting: Row[Any], gang: Gang, slot: str) -> None:
    """Tell who waits for what isn't there what that is."""
    of_job = JobEvent.job_id == waiting.id, JobEvent.type == "warning", JobEvent.data["code"].astext == "no_nodes"
    is_late = func.now() > waiting.priority_at + seconds(PATIENCE_SECONDS)
    if session.scalar(select(~exists().where(*of_job) & is_late)):
        job = _locked_if_queued(session, waiting.id)
        message = (
            f"it needs {gang.min_nodes} live workers of {gang.processes_per_node} {slot} slots each and waits for them;"
            " start workers, raise SIMCLR_NUM_CPU_SLOTS or add GPUs (GET /v1/system shows what there is)"
        )
        if job is not None:
            jobs.record_events(session, job, [("warning", {"code": "no_nodes", "message": message})])


def _settled(session: Session, slot: str, growth_seconds: float) -> Sequence[str]:
    """The jobs that began long ago in slots of this kind and have long to go, oldest first."""
    of_attempt = Placement.job_id == Job.id, Placement.attempt == Job.attempt, Placement.node_rank == 0
    is_open = Placement.ended_at.is_(None), Placement.slot == slot, Job.status == "running", ~Job.asked_to_yield
    seconds_left = Job.progress["eta_seconds"].as_float()
    statement = (
        select(Job.id)
        .join(Placement, and_(*of_attempt))
        .where(*is_open, Placement.claimed_at < func.now() - seconds(growth_seconds), seconds_left > growth_seconds)
    )
    return session.scalars(statement.order_by(Job.priority_at, Job.id)).all()


def _could_grow(session: Session, job: Job, nodes: Sequence[Node], slot: str) -> bool:
    """Whether it would be placed on more nodes than it has, if it gave these back."""
    of_attempt = Placement.job_id == job.id, Placement.attempt == job.attempt, Placement.ended_at.is_(None)
    held = session.scalars(select(Placement.node_name).where(*of_attempt)).all()
    gang = Gang.of(job.resources, job.recipe)
    room = Room.of(session, nodes, slot)
    room.give(held, gang.processes_per_node)
    return len(room.choose(gang)) > len(held)
