"""The audit log of a tenant."""

from fastapi import APIRouter
from sqlalchemy import select

from service.core.keys import ADMIN
from service.core.tables import AuditEntry
from service.deps import CallerDep, SessionDep
from service.schemas.audit import AuditEntryOut
from service.schemas.page import Limit, NumberCursor, Page, read_rows
from service.scopes import requires

router = APIRouter(prefix="/v1/audit", tags=["keys"])


@router.get("")
@requires(ADMIN)
def list_audit(
    session: SessionDep, caller: CallerDep, cursor: NumberCursor = None, limit: Limit = 50
) -> Page[AuditEntryOut]:
    """The changes that were asked for with your tenant's keys, newest first: those made, and those refused (401, 403).

    A request that was not valid, or came in conflict with something, changed nothing and isn't here.
    """
    statement = select(AuditEntry).where(AuditEntry.tenant == caller.tenant)
    rows, following = read_rows(session, statement, AuditEntry.id, cursor=cursor, limit=limit)
    return Page[AuditEntryOut](items=[AuditEntryOut.model_validate(row) for row in rows], next=following)
