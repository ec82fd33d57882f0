"""The maps that jobs made: which there are, and where the storage has them. The job's row is the map's own."""

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.orm import Session

from service.core.tables import Job

MAX_VALUES = 64_000_000  # of the vectors that are laid out at once: 256 MB


def map_folder(job_id: str, attempt: int) -> str:
    """The folder of what an attempt leaves: one that was given up can't touch what another has stored."""
    return f"{_folder(job_id)}/attempt-{attempt}"


def newest_map(session: Session, collection_id: str, model_id: str, method: str) -> Job | None:
    """The job of the newest map of a collection by a model's vectors, if there is one."""
    fits = _of_collection(collection_id), Job.model_id == model_id, Job.recipe["method"].astext == method
    return session.scalar(select(Job).where(_is_kept(), *fits).order_by(Job.finished_at.desc()).limit(1))


def kept_map(session: Session, collection_id: str, job_id: str) -> Job | None:
    """The job, if it made a map of the collection that is kept."""
    return session.scalar(select(Job).where(_is_kept(), _of_collection(collection_id), Job.id == job_id))


def forget_maps_of_collection(session: Session, collection_id: str) -> list[str]:
    """Take the maps out of the results of their jobs; their folders, to be deleted after the commit."""
    return _forget(session, _of_collection(collection_id))


def forget_maps_of_model(session: Session, model_id: str) -> list[str]:
    """The same for the maps of a model's vectors."""
    return _forget(session, Job.model_id == model_id)


def _forget(session: Session, condition: ColumnElement[bool]) -> list[str]:
    forget = update(Job).where(_is_kept(), condition).values(result=Job.result.op("-")("map"))
    return [_folder(job_id) for job_id in session.scalars(forget.returning(Job.id))]


def _is_kept() -> ColumnElement[bool]:
    is_kept: ColumnElement[bool] = (Job.kind == "map") & Job.result["map"].as_string().is_not(None)
    return is_kept


def _of_collection(collection_id: str) -> ColumnElement[bool]:
    is_of: ColumnElement[bool] = Job.recipe["collection_id"].astext == collection_id
    return is_of


def _folder(job_id: str) -> str:
    return f"maps/{job_id}"
