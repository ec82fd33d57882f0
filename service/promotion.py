"""Which model an alias serves. A switch is one transaction, with its line in the alias's history."""

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.core import vectors
from service.core.aliases import lock_switches, switch
from service.core.db import Database, tenant_of
from service.core.errors import Conflict, Invalid, NotFound
from service.core.model_files import check_files
from service.core.storage import Storage
from service.core.tables import Alias, AliasChange, Image, Model
from service.production import PRODUCTION, queue_index

LAYER = "h"


@dataclass(frozen=True)
class Promotion:
    """An alias after a switch; nothing changed if it served the model already."""

    alias: Alias
    previous_model_id: str | None
    index_job_id: str | None


def verify(database: Database, storage: Storage, model_id: str) -> None:
    """Read all of a model's files, which takes seconds for a large one.

    Raises Invalid if there is no such model, Conflict (`corrupt_model`) if a file is not as it was published.
    """
    with database.transaction() as session:
        model = _existing(session.get(Model, model_id), model_id)
    check_files(storage, model)


def promote(database: Database, name: str, model_id: str) -> Promotion:
    """Have the alias `name` serve a verified model; a new production model gets its missing vectors.

    Raises Invalid if there is no such model any more.
    """
    with database.transaction() as session:
        tenant = tenant_of(session)
        # The row is locked against deletion until the alias refers to it.
        _existing(session.get(Model, model_id, with_for_update={"read": True, "key_share": True}), model_id)
        if name == PRODUCTION:
            lock_switches(session, tenant)
        previous_model_id = switch(session, tenant, name, model_id)
        index_job_id = _index(session, model_id) if name == PRODUCTION else None
        alias = session.get_one(Alias, (tenant, name), populate_existing=True)
    return Promotion(alias, previous_model_id, index_job_id)


def previous_model_id(session: Session, name: str) -> str:
    """The model that the alias served before its last change. Raises NotFound, or Conflict where there is none."""
    newest = select(AliasChange).where(AliasChange.alias == name).order_by(AliasChange.id.desc()).limit(1)
    change = session.scalar(newest)
    if change is None:
        raise NotFound(f"there is no alias {name}")
    if change.previous_model_id is None or session.get(Model, change.previous_model_id) is None:
        raise Conflict(f"{name} served no model before, or that one was deleted", code="no_previous_model")
    return change.previous_model_id


def _existing(model: Model | None, model_id: str) -> Model:
    if model is None:
        errors = [{"field": "model_id", "message": f"there is no model {model_id}"}]
        raise Invalid("a field is not valid", errors=errors)
    return model


def _index(session: Session, model_id: str) -> str | None:
    """Queue a job for the stored images that have no vector of this model; its id, or None if all have one."""
    table = vectors.find_table(session, model_id, LAYER)
    if table is None:
        is_missing = session.scalar(select(Image.id).limit(1)) is not None
    else:
        is_missing = bool(vectors.missing_images(session, table, after="", limit=1))
    return queue_index(session, model_id) if is_missing else None
