"""Where the storage has the classifiers that linear probes leave.

A probe's job names its head in `result.files`, a fine-tuned model has it among its own files.
"""

from sqlalchemy import update
from sqlalchemy.orm import Session

from service.core.tables import Job


def head_folder(job_id: str, attempt: int) -> str:
    """The folder of what an attempt leaves: one that was given up can't touch what another has stored."""
    return f"{_folder(job_id)}/attempt-{attempt}"


def forget_heads(session: Session, model_id: str) -> list[str]:
    """Take the heads out of the results of a model's probes; their folders, to be deleted after the commit."""
    has_files = Job.result["files"].as_string().is_not(None)
    forget = update(Job).where(Job.model_id == model_id, has_files).values(result=Job.result.op("-")("files"))
    return [_folder(job_id) for job_id in session.scalars(forget.returning(Job.id))]


def _folder(job_id: str) -> str:
    return f"probes/{job_id}"
