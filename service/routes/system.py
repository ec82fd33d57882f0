"""The service itself: whether it lives, whether it can work, and with what."""

import platform
from collections import Counter, defaultdict
from datetime import datetime
from importlib.metadata import version
from typing import Any, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.core.keys import READ
from service.core.tables import ENDED, Job, Node, Placement
from service.deps import ServicesDep, SessionDep, SettingsDep
from service.health import Part, database_part, redis_part, storage_part
from service.schemas.fields import FromRow
from service.schemas.jobs import Kind
from service.scopes import requires

router = APIRouter(tags=["system"])

QUEUE_SHOWN = 20


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


@router.get("/healthz")
async def get_health() -> Health:
    """Whether the process answers; it asks nothing else."""
    return Health()


class PartStatus(BaseModel):
    """A part that the service depends on."""

    status: Literal["ok", "away"]
    about: dict[str, Any] = Field(description="Its versions, or its error.")


class Readiness(BaseModel):
    """Whether the service can work."""

    status: Literal["ready", "degraded", "not_ready"] = Field(
        description="degraded: without Redis jobs are accepted and wait; not_ready: no database or no storage."
    )
    parts: dict[str, PartStatus]
    production_model: str | None = Field(
        description="Id of the model that serves when none is named; where keys are required, nobody is told here."
    )


@router.get("/readyz", responses={503: {"model": Readiness, "description": "No database or no storage."}})
def get_readiness(services: ServicesDep, response: Response) -> Readiness:
    """Whether the database and the storage can be used (else 503), and Redis (else degraded)."""
    found = {
        "database": database_part(services.database),
        "storage": storage_part(services.storage),
        "redis": redis_part(services.settings.redis_url),
    }
    is_ready = found["database"].is_usable and found["storage"].is_usable
    if not is_ready:
        response.status_code = 503
    production_model = found["database"].about.pop("production_model", None)
    return Readiness(
        status="not_ready" if not is_ready else "ready" if found["redis"].is_usable else "degraded",
        parts={name: _status(part) for name, part in found.items()},
        production_model=production_model,
    )


def _status(part: Part) -> PartStatus:
    return PartStatus(status="ok" if part.is_usable else "away", about=part.about)


class Running(BaseModel):
    """A node's part of a job."""

    job_id: str
    attempt: int
    slot: str
    num_slots: int = Field(description="Processes that it has here.")
    node_rank: int = Field(description="Of its nodes, counted from 0.")
    num_nodes: int


class Queued(FromRow):
    """A job that waits for slots."""

    id: str
    kind: Kind
    resources: dict[str, Any]
    priority_at: datetime = Field(description="The queue's order: since when it waits, or waited first.")


class NodeOut(BaseModel):
    """A worker."""

    name: str
    address: str = Field(description="At which other nodes reach it.")
    is_alive: bool = Field(description="Its heartbeat is younger than a lease.")
    slots: dict[str, int] = Field(description="Processes of each kind that it runs at once: cpu, cuda, light.")
    free_slots: dict[str, int]
    running: list[Running] = Field(description="Jobs of other tenants take slots, but are not told.")
    devices: dict[str, Any]
    versions: dict[str, Any]
    started_at: datetime
    heartbeat_at: datetime


class System(BaseModel):
    """What there is to work with, and what there is to do."""

    nodes: list[NodeOut]
    jobs: dict[str, int] = Field(description="Number of unfinished jobs in each state.")
    queue: list[Queued] = Field(description=f"The first {QUEUE_SHOWN} jobs that wait, next one first.")
    versions: dict[str, str]


@router.get("/v1/system")
@requires(READ)
def get_system(session: SessionDep, settings: SettingsDep) -> System:
    """Workers with their devices and free slots, unfinished jobs, versions."""
    num_jobs = select(Job.status, func.count()).where(Job.status.not_in(ENDED)).group_by(Job.status)
    queue = select(Job).where(Job.status == "queued").order_by(Job.priority_at, Job.id).limit(QUEUE_SHOWN)
    waiting = {"queued": 0, "running": 0, "cancelling": 0}
    return System(
        nodes=_nodes(session, settings.lease_seconds),
        jobs=waiting | dict(session.execute(num_jobs).all()),
        queue=[Queued.model_validate(job) for job in session.scalars(queue)],
        versions={"simclr-service": version("simclr-service"), "python": platform.python_version()},
    )


def _nodes(session: Session, lease_seconds: float) -> list[NodeOut]:
    running: dict[str, list[Running]] = defaultdict(list)
    num_used: Counter[tuple[str, str]] = Counter()
    placements = session.scalars(select(Placement).where(Placement.ended_at.is_(None))).all()
    own = set(session.scalars(select(Job.id).where(Job.id.in_([placement.job_id for placement in placements]))))
    for placement in placements:
        if placement.job_id in own:
            running[placement.node_name].append(Running.model_validate(placement, from_attributes=True))
        num_used[placement.node_name, placement.slot] += placement.num_slots
    silence = func.extract("epoch", func.now() - Node.heartbeat_at)
    return [
        NodeOut(
            name=node.name,
            address=node.address,
            is_alive=silent_seconds < lease_seconds,
            slots=node.slots,
            free_slots={kind: number - num_used[node.name, kind] for kind, number in node.slots.items()},
            running=running[node.name],
            devices=node.devices,
            versions=node.versions,
            started_at=node.started_at,
            heartbeat_at=node.heartbeat_at,
        )
        for node, silent_seconds in session.execute(select(Node, silence).order_by(Node.name))
    ]
