"""Which blobs the rows of all tenants name."""

from collections.abc import Iterator

from sqlalchemy import select
from sqlalchemy.orm import Session

from models.collection_map import MAP_FILE
from service.core.heads import head_folder
from service.core.jobs import log_key
from service.core.maps import map_folder
from service.core.tables import Checkpoint, Dataset, Image, Job, Model, Placement


def named_blobs(session: Session) -> dict[str, str]:
    """The sha256 of each blob by its key."""
    return dict(_named(session))


def _named(session: Session) -> Iterator[tuple[str, str]]:
    for key, sha256 in session.execute(select(Dataset.archive_key, Dataset.archive_sha256)):
        yield key, sha256
    for column in (Dataset.files, Model.files):
        for files in session.scalars(select(column).where(column.is_not(None))):
            for file in files.values():
                yield file["key"], file["sha256"]
    for key, sha256 in session.execute(select(Checkpoint.key, Checkpoint.sha256)):
        yield key, sha256
    for key, image_id in session.execute(select(Image.key, Image.id)):
        yield key, image_id  # the sha256 of its bytes
    yield from _of_results(session)


def _of_results(session: Session) -> Iterator[tuple[str, str]]:
    """What probes and maps have left: the result of their job has the sha256, and the key follows from the job."""
    of_kind = select(Job.id, Job.attempt, Job.result)
    for job_id, attempt, result in session.execute(of_kind.where(Job.kind == "linear_probe", Job.result.is_not(None))):
        for name, file in result.get("files", {}).items():
            yield f"{head_folder(job_id, attempt)}/{name}", file["sha256"]
    for job_id, attempt, result in session.execute(of_kind.where(Job.kind == "map", Job.result.is_not(None))):
        if "map" in result:
            yield f"{map_folder(job_id, attempt)}/{MAP_FILE}", result["map"]["sha256"]


def log_keys(session: Session) -> list[str]:
    """Where what jobs printed is, if they printed anything: no row says whether."""
    columns = select(Placement.job_id, Placement.attempt, Placement.node_rank)
    return [log_key(*row) for row in session.execute(columns)]
