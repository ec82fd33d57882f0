"""Rows as the API shows them, where that takes more than the row: a query or two for any number of them."""

from collections import defaultdict
from collections.abc import Sequence

from pydantic import ValidationError
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from models.config import PretrainRecipe
from models.layers import layer_names
from service.core.tables import Alias, Dataset, EmbeddingTable, Job, Model
from service.schemas.datasets import DatasetOut
from service.schemas.models import IndexOut, ModelOut


def describe_datasets(session: Session, datasets: Sequence[Dataset]) -> list[DatasetOut]:
    """Data sets, with their ingest jobs."""
    ids = [dataset.id for dataset in datasets]
    statement = select(Job.dataset_id, func.max(Job.id)).where(Job.kind == "ingest", Job.dataset_id.in_(ids))
    job_ids = dict(session.execute(statement.group_by(Job.dataset_id)).all())
    own = DatasetOut.model_fields.keys() - {"job_id"}
    return [
        DatasetOut.model_validate({name: getattr(dataset, name) for name in own} | {"job_id": job_ids.get(dataset.id)})
        for dataset in datasets
    ]


def describe_models(session: Session, models: Sequence[Model]) -> list[ModelOut]:
    """Models, with the aliases that serve them and the tables of their vectors."""
    ids = [model.id for model in models]
    aliases, indexes = defaultdict(list), defaultdict(list)
    for alias in session.scalars(select(Alias).where(Alias.model_id.in_(ids)).order_by(Alias.name)):
        aliases[alias.model_id].append(alias.name)
    tables = select(EmbeddingTable).where(EmbeddingTable.model_id.in_(ids)).order_by(EmbeddingTable.number)
    for table in session.scalars(tables):
        indexes[table.model_id].append(IndexOut.model_validate(table))
    own = ModelOut.model_fields.keys() - {"aliases", "indexes", "layers"}
    return [
        ModelOut.model_validate(
            {name: getattr(model, name) for name in own}
            | {"aliases": aliases[model.id], "indexes": indexes[model.id], "layers": _in_order(model)}
        )
        for model in models
    ]


def _in_order(model: Model) -> dict[str, int]:
    """The model's layers first to last: the database's JSON has no order. Without a head z is h, and comes last."""
    try:
        order = (*layer_names(PretrainRecipe.model_validate(model.recipe)), "z")
    except ValidationError:  # an older release's, of other rules: it has h and z alone
        return dict(sorted(model.layers.items()))
    return dict(sorted(model.layers.items(), key=lambda layer: order.index(layer[0])))
