"""Whether a job can be done on the data set and the model that it names: asked before it is queued."""

from collections.abc import Iterator
from typing import Any, TypeVar

from pydantic import ValidationError
from sqlalchemy.orm import Session

from models.config import PretrainRecipe
from models.finetuning import label_obstacle
from models.layers import unknown_layer
from models.probing import knn_obstacle, probe_obstacle, transform_obstacle
from service.core.errors import Conflict, Invalid
from service.core.gang import Gang
from service.core.tables import Collection, Dataset, Model
from service.schemas.job_requests import (
    MAX_NODES,
    AblationRequest,
    AnyJobRequest,
    ExportRequest,
    FinetuneRequest,
    KnnProbeRequest,
    LayerSweepRequest,
    LinearProbeRequest,
    MapRequest,
    PretrainRequest,
    TransformProbeRequest,
)
from service.vector_tables import find_vectors

Row = TypeVar("Row", Collection, Dataset, Model)


def check_request(session: Session, request: AnyJobRequest) -> None:
    """Raises Invalid with the field at fault, or Conflict (`dataset_not_ready`, `not_indexed`, `unreadable_model`).

    The rows stay locked against deletion until the transaction ends, so that the job's references hold.
    """
    if request.model_id is not None:
        model = _row(session, Model, "model_id", request.model_id)
        if isinstance(request, MapRequest):
            _row(session, Collection, "recipe.collection_id", request.recipe.collection_id)
            find_vectors(session, model.id, request.recipe.layer)
            return
        _check_layers(request, _recipe_of(model))
    if request.dataset_id is None:
        return
    dataset = _row(session, Dataset, "dataset_id", request.dataset_id)
    if dataset.status != "ready":
        reason = f" ({dataset.error['message']})" if dataset.error else ""
        raise Conflict(f"the data set {dataset.id} is {dataset.status}, not ready{reason}", code="dataset_not_ready")
    splits = dataset.splits or {}
    if isinstance(request, PretrainRequest | AblationRequest):
        _check_pretraining(request, dataset.classes or [], splits.get("train", {"num_images": 0, "per_class": []}))
    if obstacle := _obstacle(request, dataset.classes or [], splits):
        raise _invalid("dataset_id", obstacle)
    if isinstance(request, FinetuneRequest):
        fraction = request.recipe.label_fraction
        if obstacle := label_obstacle(dataset.classes or [], splits, fraction):
            raise _invalid("recipe.label_fraction", obstacle)


def _row(session: Session, table: type[Row], field: str, id_: str) -> Row:
    row = session.get(table, id_, with_for_update={"read": True, "key_share": True})
    if row is None:
        raise _invalid(field, f"there is no {table.__name__.lower()} {id_}")
    return row


def _recipe_of(model: Model) -> PretrainRecipe:
    try:
        return PretrainRecipe.model_validate(model.recipe)
    except ValidationError as error:
        field = ".".join(map(str, error.errors()[0]["loc"]))
        raise Conflict(
            f"the model {model.id} was made by an older release, whose {field} this one hasn't got: pretrain another",
            code="unreadable_model",
        ) from error


def _obstacle(request: AnyJobRequest, classes: list[str], splits: dict[str, Any]) -> str | None:
    """Why the data set can't serve the job that the request asks for."""
    if isinstance(request, PretrainRequest):
        return None
    if isinstance(request, ExportRequest):
        is_empty = not splits.get("train", {"num_images": 0})["num_images"]
        return "an export calibrates on training images; the data set has none" if is_empty else None
    if isinstance(request, TransformProbeRequest):
        return transform_obstacle({name: split["num_images"] for name, split in splits.items()})
    return probe_obstacle(classes, splits)


def _check_layers(request: AnyJobRequest, recipe: PretrainRecipe) -> None:
    """Raises Invalid if the network of `recipe` has no such layer."""
    layers: tuple[str, ...]
    match request:
        case LinearProbeRequest() | KnnProbeRequest():
            field, layers = "recipe.layer", (request.recipe.layer,)
        case LayerSweepRequest() | TransformProbeRequest():
            field, layers = "recipe.layers", request.recipe.layers or ()
        case AblationRequest():
            field, layers = "recipe.probe.layer", (request.recipe.probe.layer,)
        case _:
            return
    if reason := unknown_layer(recipe, layers):
        raise _invalid(field, reason)


def _check_pretraining(request: PretrainRequest | AblationRequest, classes: list[str], train: dict[str, Any]) -> None:
    """`train` counts the data set's training images, of each of its classes too."""
    if (num_images := train["num_images"]) < 2:
        raise _invalid("dataset_id", f"pretraining needs at least 2 training images; this data set has {num_images}")
    for recipe in _recipes(request):
        _check_layers(request, recipe)
        if recipe.schedule.epochs and recipe.batch_size > num_images:
            message = f"at most {num_images}, the number of training images, not {recipe.batch_size}"
            raise _invalid(_field(request, "batch_size"), message)
        if recipe.knn_every_epochs and (reason := knn_obstacle(classes, train["per_class"])):
            raise _invalid(_field(request, "knn_every_epochs"), reason)
        if not Gang.of(request.resources.model_dump(), recipe.model_dump()).numbers_of_nodes(MAX_NODES):
            nodes, each = request.resources.nodes, request.resources.processes_per_node
            message = (
                f"a multiple of the number of processes, which share it evenly: {each} on each of"
                f" {nodes.min} to {nodes.max} nodes; {recipe.batch_size} is none"
            )
            raise _invalid(_field(request, "batch_size"), message)


def _recipes(request: PretrainRequest | AblationRequest) -> Iterator[PretrainRecipe]:
    """What is pretrained."""
    if isinstance(request, PretrainRequest):
        yield request.recipe
        return
    for cell in request.recipe.cells():
        yield request.recipe.recipe(cell, request.recipe.seeds[0])


def _field(request: PretrainRequest | AblationRequest, name: str) -> str:
    """Where the request has a pretraining recipe's field."""
    if isinstance(request, PretrainRequest):
        return f"recipe.{name}"
    return f"recipe.{'grid' if name in request.recipe.grid else 'base'}.{name}"


def _invalid(field: str, message: str) -> Invalid:
    errors: list[dict[str, Any]] = [{"field": field, "message": message}]
    return Invalid("a field is not valid", errors=errors)
