"""Switches of an alias to another model: one transaction each, with a line in the alias's history.

An upload embeds first and commits later. Both it and a switch end under their tenant's lock: the upload shares it, a
switch has it alone. So an upload either commits before the switch looks for images without a vector, or sees the new
model.
"""

from sqlalchemy import func, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from service.core.tables import Alias, AliasChange

SWITCH_LOCK = 0x51_3C_30  # first half of an advisory lock's key


def lock_switches(session: Session, tenant: str) -> None:
    """Let no upload and no other switch of the tenant end until this transaction has."""
    lock = {"lock": SWITCH_LOCK, "tenant": tenant}
    session.execute(text("select pg_advisory_xact_lock(:lock, hashtext(:tenant))"), lock)


def share_switches(session: Session, tenant: str) -> None:
    """Let no switch of the tenant happen until this transaction ends."""
    lock = {"lock": SWITCH_LOCK, "tenant": tenant}
    session.execute(text("select pg_advisory_xact_lock_shared(:lock, hashtext(:tenant))"), lock)


def switch(session: Session, tenant: str, name: str, model_id: str) -> str | None:
    """Point the tenant's alias at its model; the one that it served before."""
    new = insert(Alias).values(tenant=tenant, name=name, model_id=model_id)
    is_new = session.scalar(new.on_conflict_do_nothing().returning(Alias.name)) is not None
    alias = session.get_one(Alias, (tenant, name), with_for_update=True, populate_existing=True)
    previous = None if is_new else alias.model_id
    if previous != model_id:
        alias.model_id, alias.updated_at = model_id, func.now()
        session.add(AliasChange(tenant=tenant, alias=name, model_id=model_id, previous_model_id=previous))
        session.flush()
    return previous
