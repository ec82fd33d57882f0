"""Jobs, queue, workers and their slots, as the database knows them: the same from every replica of the API."""

from collections import Counter

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.core.db import AWAY, Database
from service.core.tables import JOB_STATUSES, Job, Node, Placement
from service.exposition import gauge


def fleet_metrics(database: Database, lease_seconds: float) -> str:
    """The families; without the database only that it is away."""
    try:
        with database.transaction() as session:
            families = [_jobs(session), _queue(session), *_nodes(session, lease_seconds)]
    except AWAY:
        families = []
    up = gauge("simclr_database_up", "Whether the database answers.", [({}, bool(families))])
    return "".join([up, *families])


def _jobs(session: Session) -> str:
    counts = dict(session.execute(select(Job.status, func.count()).group_by(Job.status)).all())
    samples = [({"status": status}, counts.get(status, 0)) for status in JOB_STATUSES]
    return gauge("simclr_jobs", "Jobs in each state.", samples)


def _queue(session: Session) -> str:
    age = func.extract("epoch", func.now() - func.min(Job.priority_at))
    seconds = session.scalar(select(age).where(Job.status == "queued")) or 0
    return gauge("simclr_queue_oldest_seconds", "For how long the first queued job waits.", [({}, float(seconds))])


def _nodes(session: Session, lease_seconds: float) -> list[str]:
    silence = func.extract("epoch", func.now() - Node.heartbeat_at)
    alive = session.execute(select(Node.name, Node.slots).where(silence < lease_seconds)).all()
    total: Counter[str] = Counter({"cpu": 0, "cuda": 0, "light": 0})
    for _, slots in alive:
        total.update(slots)
    open_placements = select(Placement.slot, func.sum(Placement.num_slots)).where(
        Placement.ended_at.is_(None), Placement.node_name.in_([name for name, _ in alive])
    )
    used = dict(session.execute(open_placements.group_by(Placement.slot)).all())
    return [
        gauge("simclr_nodes_alive", "Workers whose heartbeat is younger than a lease.", [({}, len(alive))]),
        gauge("simclr_slots", "Slots of these workers; cuda: GPUs.", [({"kind": k}, n) for k, n in total.items()]),
        gauge("simclr_slots_used", "Slots that jobs hold.", [({"kind": k}, used.get(k, 0)) for k in total]),
    ]
