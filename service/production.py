"""The model in production, for those that must not miss a switch of it (service/core/aliases.py)."""

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from models.config import IndexRecipe
from service.core import jobs
from service.core.aliases import share_switches
from service.core.db import tenant_of
from service.core.tables import Alias, Job

PRODUCTION = "production"
QUEUE_LOCK = 0x51_3C_31  # first half of an advisory lock's key


def settled_model_id(session: Session) -> str | None:
    """The model in production, if there is one; no switch happens until this transaction ends. Call it last."""
    share_switches(session, tenant_of(session))
    return session.scalar(select(Alias.model_id).where(Alias.name == PRODUCTION))


def queue_index(session: Session, model_id: str) -> str:
    """The id of an index job of the model that begins after this transaction: the one in the queue, or a new one."""
    lock = {"lock": QUEUE_LOCK, "model_id": model_id}
    session.execute(text("select pg_advisory_xact_lock(:lock, hashtext(:model_id))"), lock)
    queued = select(Job.id).where(Job.kind == "index", Job.model_id == model_id, Job.status == "queued")
    # The row's lock keeps the job from beginning before what this transaction wrote can be seen.
    found = session.scalar(queued.order_by(Job.id).limit(1).with_for_update(read=True))
    return found or jobs.submit(session, kind="index", recipe=IndexRecipe().model_dump(), model_id=model_id).id
