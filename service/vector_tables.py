"""The table of vectors that a request is about, found without loading the model."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.core import vectors
from service.core.errors import Conflict, NotFound
from service.core.tables import Alias, EmbeddingTable, Model
from service.production import PRODUCTION


def find_model_id(session: Session, key: str | None) -> str:
    """The id of the model with an id or alias, by default the one in production. Raises NotFound or Conflict."""
    of_alias = select(Alias.model_id).where(Alias.name == (key or PRODUCTION))
    found = session.scalar(select(Model.id).where((Model.id == key) | Model.id.in_(of_alias)))
    if found is not None:
        return found
    if key in {None, PRODUCTION}:
        raise Conflict("no model is in production yet, and no `model` is named", code="no_production_model")
    raise NotFound(f"there is no model or alias {key}")


def find_vectors(session: Session, key: str | None, layer: str) -> EmbeddingTable:
    """The table of a model's layer. Raises NotFound, or Conflict where no image has a vector of it."""
    model_id = find_model_id(session, key)
    table = vectors.find_table(session, model_id, layer)
    if table is None:
        raise Conflict(
            f"no image has a vector {layer} of the model {model_id} yet; run a job of the kind `index`",
            code="not_indexed",
        )
    return table
