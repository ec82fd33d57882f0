"""The service itself: whether it lives, whether it can work, and with what."""

import platform
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field
from sqlalchemy import func, select
from sqlalchemy.orm import Session
from starlette.responses import HTMLResponse

from service.core.tables import ENDED, Job, Node, Placement
from service.deps import ServicesDep, SessionDep, SettingsDep
from service.health import Part, database_part, redis_part, storage_part

router = APIRouter(tags=["system"])

LANDING_PAGE = (Path(__file__).parent.parent / "web" / "index.html").read_text(encoding="utf-8")


@router.get("/", include_in_schema=False)
async def landing_page() -> HTMLResponse:
    """What this is, for people."""
    return HTMLResponse(LANDING_PAGE)


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
    production_model: str | None = Field(description="Id of the model that serves when none is named.")


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


class NodeOut(BaseModel):
    """A worker."""

    name: str
    is_alive: bool = Field(description="Its heartbeat is younger than a lease.")
    slots: dict[str, int] = Field(description="Jobs of each kind that it runs at once: cpu, cuda, light.")
    free_slots: dict[str, int]
    devices: dict[str, Any]
    versions: dict[str, Any]
    started_at: datetime
    heartbeat_at: datetime


class System(BaseModel):
    """What there is to work with, and what there is to do."""

    nodes: list[NodeOut]
    jobs: dict[str, int] = Field(description="Number of unfinished jobs in each state.")
    versions: dict[str, str]


@router.get("/v1/system")
def get_system(session: SessionDep, settings: SettingsDep) -> System:
    """Workers with their devices and free slots, unfinished jobs, versions."""
    num_jobs = select(Job.status, func.count()).where(Job.status.not_in(ENDED)).group_by(Job.status)
    waiting = {"queued": 0, "running": 0, "cancelling": 0}
    return System(
        nodes=_nodes(session, settings.lease_seconds),
        jobs=waiting | dict(session.execute(num_jobs).all()),
        versions={"simclr-service": version("simclr-service"), "python": platform.python_version()},
    )


def _nodes(session: Session, lease_seconds: float) -> list[NodeOut]:
    used = select(Placement.node_name, Placement.slot, func.sum(Placement.num_slots)).where(
        Placement.ended_at.is_(None)
    )
    num_used = {
        (name, slot): number
        for name, slot, number in session.execute(used.group_by(Placement.node_name, Placement.slot))
    }
    silence = func.extract("epoch", func.now() - Node.heartbeat_at)
    return [
        NodeOut(
            name=node.name,
            is_alive=silent_seconds < lease_seconds,
            slots=node.slots,
            free_slots={kind: number - num_used.get((node.name, kind), 0) for kind, number in node.slots.items()},
            devices=node.devices,
            versions=node.versions,
            started_at=node.started_at,
            heartbeat_at=node.heartbeat_at,
        )
        for node, silent_seconds in session.execute(select(Node, silence).order_by(Node.name))
    ]
