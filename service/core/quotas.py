"""How much a tenant may have, and ask for: the limits of its keys, held against what the tables say it has.

Each check locks its quota for the tenant until the transaction ends, so that two requests can't both take the last
place; without a limit it asks the database nothing.
"""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from service.core.db import tenant_of
from service.core.errors import QuotaExceeded
from service.core.settings import Settings
from service.core.tables import ENDED, Image, Job, Placement

QUOTA_LOCK = 0x51_3C_40  # first half of an advisory lock's key
RETRY_AFTER_SECONDS = 60  # until a job may have ended, or images were deleted


def _integer(value: Any) -> Any:
    """7.0 is an integer in JSON Schema, which has no other word for a whole number."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Count = Annotated[int, Field(strict=True, ge=0, le=2**31 - 1), BeforeValidator(_integer)]


class Limits(BaseModel):
    """What a key may do; what is left out is the service's default. Quotas count all that the key's tenant has."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    requests_per_second: float | None = Field(
        None, strict=True, gt=0, le=1e6, description="In each process of the API."
    )
    images: Count | None = Field(None, description="Stored at once.")
    jobs: Count | None = Field(None, description="Unfinished at once, those of an ablation apart.")
    gpu_seconds: Count | None = Field(None, description="In a month (UTC), for each GPU.")

    def over(self, settings: Settings) -> "Limits":
        """These limits, and where there is none the service's default; None is no limit then."""
        return Limits(
            requests_per_second=self.requests_per_second or settings.requests_per_second or None,
            images=settings.quota_images or None if self.images is None else self.images,
            jobs=settings.quota_jobs or None if self.jobs is None else self.jobs,
            gpu_seconds=settings.quota_gpu_seconds or None if self.gpu_seconds is None else self.gpu_seconds,
        )

    def exceeding(self, others: "Limits") -> list[str]:
        """The names of those that are wider than the others'."""
        mine, theirs = self.model_dump(), others.model_dump()
        limited = {name: most for name, most in theirs.items() if most is not None}
        return [name for name, most in limited.items() if mine[name] is None or mine[name] > most]


NO_LIMITS = Limits()


def check_images(session: Session, limits: Limits) -> None:
    """Raise QuotaExceeded where the tenant has more images than it may have: call it once the new ones are inserted."""
    if limits.images is not None:
        _lock(session, "images")
        number = session.scalar(select(func.count()).select_from(Image)) or 0
        if number > limits.images:
            raise _exceeded("images", limits.images, number, "stored images", RETRY_AFTER_SECONDS)


def check_jobs(session: Session, limits: Limits) -> None:
    """Raise QuotaExceeded unless the tenant may have one more unfinished job."""
    if limits.jobs is not None:
        _lock(session, "jobs")
        unfinished = select(func.count()).where(Job.status.not_in(ENDED), Job.parent_id.is_(None))
        number = session.scalar(unfinished) or 0
        if number >= limits.jobs:
            raise _exceeded("jobs", limits.jobs, number, "unfinished jobs", RETRY_AFTER_SECONDS)


def check_gpu_seconds(session: Session, limits: Limits) -> None:
    """Raise QuotaExceeded where the tenant's jobs have held GPUs for as long as they may in this month."""
    if limits.gpu_seconds is not None:
        now = datetime.now(UTC)
        month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        used = gpu_seconds_since(session, month)
        if used >= limits.gpu_seconds:
            next_month = (month + timedelta(days=32)).replace(day=1)
            wait = int((next_month - now).total_seconds()) + 1
            raise _exceeded("gpu_seconds", limits.gpu_seconds, int(used), "GPU seconds in this month", wait)


def gpu_seconds_since(session: Session, since: datetime) -> float:
    """How long the tenant's jobs have held GPUs: of each attempt on a node its duration times its GPUs."""
    began = func.greatest(Placement.claimed_at, since)
    seconds = func.extract("epoch", func.coalesce(Placement.ended_at, func.now()) - began)
    statement = (
        select(func.coalesce(func.sum(func.greatest(seconds, 0) * Placement.num_slots), 0))
        .select_from(Placement)
        .join(Job, Job.id == Placement.job_id)
        .where(Placement.slot == "cuda", Placement.claimed_at.is_not(None))
    )
    return float(session.execute(statement).scalar_one())


def _lock(session: Session, name: str) -> None:
    lock = {"lock": QUOTA_LOCK, "name": f"{tenant_of(session)} {name}"}
    session.execute(text("select pg_advisory_xact_lock(:lock, hashtext(:name))"), lock)


def _exceeded(name: str, limit: int, used: int, what: str, retry_after_seconds: int) -> QuotaExceeded:
    return QuotaExceeded(
        f"the quota {name} is {limit:,} {what}; this would be over it",
        errors=[{"field": name, "message": f"limit {limit}, used {used}"}],
        retry_after_seconds=retry_after_seconds,
    )
