"""Whether a job can be done on the data set and the model that it names: asked before it is queued."""

from typing import Any, TypeVar

from sqlalchemy.orm import Session

from models.config import PretrainRecipe
from models.probing import probe_obstacle
from service.core.errors import Conflict, Invalid
from service.core.gang import Gang
from service.core.tables import Dataset, Model
from service.schemas.job_requests import AnyJobRequest, PretrainRequest

Row = TypeVar("Row", Dataset, Model)


def check_request(session: Session, request: AnyJobRequest) -> None:
    """Raises Invalid with the field at fault, or Conflict (`dataset_not_ready`).

    The rows stay locked against deletion until the transaction ends, so that the job's references hold.
    """
    if request.model_id is not None:
        _row(session, Model, "model_id", request.model_id)
    if request.dataset_id is None:
        return
    dataset = _row(session, Dataset, "dataset_id", request.dataset_id)
    if dataset.status != "ready":
        reason = f" ({dataset.error['message']})" if dataset.error else ""
        raise Conflict(f"the data set {dataset.id} is {dataset.status}, not ready{reason}", code="dataset_not_ready")
    splits = dataset.splits or {}
    if isinstance(request, PretrainRequest):
        _check_pretraining(request.recipe, splits.get("train", {"num_images": 0})["num_images"])
        _check_processes(request)
    elif obstacle := probe_obstacle(dataset.classes or [], splits):
        raise _invalid("dataset_id", obstacle)


def _row(session: Session, table: type[Row], field: str, id_: str) -> Row:
    row = session.get(table, id_, with_for_update={"read": True, "key_share": True})
    if row is None:
        raise _invalid(field, f"there is no {table.__name__.lower()} {id_}")
    return row


def _check_pretraining(recipe: PretrainRecipe, num_images: int) -> None:
    if num_images < 2:
        raise _invalid("dataset_id", f"pretraining needs at least 2 training images; this data set has {num_images}")
    if recipe.schedule.epochs and recipe.batch_size > num_images:
        raise _invalid(
            "recipe.batch_size",
            f"at most {num_images}, the number of training images, not {recipe.batch_size}",
        )


def _check_processes(request: PretrainRequest) -> None:
    resources, batch_size = request.resources, request.recipe.batch_size
    gang = Gang.of(resources.model_dump(), request.recipe.model_dump())
    if not gang.numbers_of_nodes(resources.nodes.max):
        nodes, each = resources.nodes, resources.processes_per_node
        raise _invalid(
            "recipe.batch_size",
            f"a multiple of the number of processes, which share it evenly: {each} on each of"
            f" {nodes.min} to {nodes.max} nodes; {batch_size} is none",
        )


def _invalid(field: str, message: str) -> Invalid:
    errors: list[dict[str, Any]] = [{"field": field, "message": message}]
    return Invalid("a field is not valid", errors=errors)
