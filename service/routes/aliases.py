"""Aliases: names that serve models. `production` serves when no model is named."""

from fastapi import APIRouter
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from service.core.db import Database
from service.core.errors import NotFound
from service.core.keys import READ, TRAIN
from service.core.tables import Alias, AliasChange
from service.deps import Services, ServicesDep, SessionDep
from service.promotion import Promotion, previous_model_id, promote, verify
from service.refusals import may
from service.schemas.fields import AliasName
from service.schemas.links import links_to, listed
from service.schemas.models import AliasChangeOut, AliasMoved, AliasOut, AliasTarget
from service.schemas.page import Limit, NameCursor, NumberCursor, Page, read_rows
from service.scopes import requires

router = APIRouter(prefix="/v1/aliases", tags=["models"])

LINKS = links_to("alias", "list_alias_changes", "rollback_alias", source="$response.body#/name")


@router.put(
    "/{alias}",
    responses={200: {"links": LINKS}, **may(409)},
)
@requires(TRAIN)
async def set_alias(alias: AliasName, target: AliasTarget, services: ServicesDep) -> AliasMoved:
    """Have an alias serve a model, from the next request on.

    The model's files are checked first, and it has to embed a few images (else 409), while the model before it serves.
    """
    return await _switched(services, alias, target.model_id)


@router.get("", responses=listed("alias", "list_alias_changes", "rollback_alias", name="name"))
@requires(READ)
def list_aliases(session: SessionDep, cursor: NameCursor = None, limit: Limit = 50) -> Page[AliasOut]:
    """All aliases, by name."""
    rows, following = read_rows(session, select(Alias), Alias.name, cursor=cursor, limit=limit, descending=False)
    return Page[AliasOut](items=[AliasOut.model_validate(row) for row in rows], next=following)


@router.get("/{alias}/history", responses=may(404))
@requires(READ)
def list_alias_changes(
    alias: AliasName, session: SessionDep, cursor: NumberCursor = None, limit: Limit = 50
) -> Page[AliasChangeOut]:
    """The changes of an alias, newest first."""
    _check(session, alias)
    statement = select(AliasChange).where(AliasChange.alias == alias)
    rows, following = read_rows(session, statement, AliasChange.id, cursor=cursor, limit=limit)
    return Page[AliasChangeOut](items=[AliasChangeOut.model_validate(row) for row in rows], next=following)


@router.post("/{alias}/rollback", responses={200: {"links": LINKS}, **may(404, 409)})
@requires(TRAIN)
async def rollback_alias(alias: AliasName, services: ServicesDep) -> AliasMoved:
    """Have an alias serve the model that it served before its last change."""
    model_id = await run_in_threadpool(_previous, services.database, alias)
    return await _switched(services, alias, model_id)


async def _switched(services: Services, alias: str, model_id: str) -> AliasMoved:
    """Verify, load, try, switch; requests that hold the model before end with it."""
    await run_in_threadpool(verify, services.database, services.storage, model_id)
    await services.embedding.models.preload(services.caller.tenant, model_id)
    return _moved(await run_in_threadpool(promote, services.database, alias, model_id))


def _previous(database: Database, alias: str) -> str:
    with database.transaction() as session:
        return previous_model_id(session, alias)


def _check(session: Session, name: str) -> None:
    if session.scalar(select(Alias.name).where(Alias.name == name)) is None:
        raise NotFound(f"there is no alias {name}")


def _moved(promotion: Promotion) -> AliasMoved:
    alias = promotion.alias
    return AliasMoved(
        name=alias.name,
        model_id=alias.model_id,
        updated_at=alias.updated_at,
        previous_model_id=promotion.previous_model_id,
        index_job_id=promotion.index_job_id,
    )
