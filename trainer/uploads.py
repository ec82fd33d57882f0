"""Copies of a run's checkpoints in storage, of which a job keeps the newest two."""

import json
import time
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

import structlog
from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert

from service.core import jobs
from service.core.tables import Checkpoint, Job
from trainer.background import in_background
from trainer.host import Host
from trainer.run import RunFolder

KEPT = 2
RETRY_SECONDS = 5

logger: structlog.stdlib.BoundLogger = structlog.get_logger()


class CheckpointUploads:
    """Stores the newest checkpoint of a run in the background, one at a time."""

    def __init__(self, host: Host, job: Job, run: RunFolder) -> None:
        self.host = host
        self.job = job
        self.run = run
        self._stored_step = newest_checkpoint(run) or 0  # the restored one is there already
        self._step = 0
        self._upload: Future[None] | None = None
        self._retry_at = 0.0

    def advance(self) -> bool:
        """Go on as far as possible without waiting; whether nothing is left to do. Raises Fenced.

        A storage or database that is away doesn't stop the training: the upload is tried again later.
        """
        if self._upload is not None:
            if not self._upload.done():
                return False
            self._finish(self._upload.exception())
        step = newest_checkpoint(self.run) or 0
        if step <= self._stored_step or time.monotonic() < self._retry_at:
            return True
        self._step = step
        self._upload = in_background(lambda: store_checkpoint(self.host, self.job, self.run, step))
        return False

    def _finish(self, error: BaseException | None) -> None:
        self._upload = None
        if isinstance(error, jobs.Fenced):
            raise error
        if error is None:
            self._stored_step = self._step
        else:
            logger.warning("checkpoint not stored", job_id=self.job.id, step=self._step, error=str(error))
            self._retry_at = time.monotonic() + RETRY_SECONDS


def newest_checkpoint(run: RunFolder) -> int | None:
    """Step of the newest whole checkpoint in the run folder, or None."""
    steps = (int(path.stem.removeprefix("step-")) for path in run.checkpoints.glob("step-*.json"))
    return max(steps, default=None)


def store_checkpoint(host: Host, job: Job, run: RunFolder, step: int) -> None:
    """Copy a checkpoint to the storage and record it. Raises Fenced if the attempt is over.

    If the process has deleted it by now, a newer one is there, and nothing is stored.
    """
    path = run.checkpoints / f"step-{step:08d}.pt"
    key = f"jobs/{job.id}/checkpoints/{path.stem}-{job.attempt}.pt"
    with suppress(FileNotFoundError):
        manifest = json.loads(path.with_suffix(".json").read_bytes())
        host.storage.put_file(key, path)
        for obsolete in _record(host, job, {**manifest, "key": key, "attempt": job.attempt}):
            host.storage.delete(obsolete)


def _record(host: Host, job: Job, values: dict[str, Any]) -> list[str]:
    """Write the row and its event; the keys of the checkpoints that are no longer kept."""
    with host.database.transaction() as session:
        held = jobs.hold(session, job.id, job.attempt)
        row = insert(Checkpoint).values(job_id=job.id, **values)
        session.execute(row.on_conflict_do_update(index_elements=["job_id", "step"], set_=values))
        jobs.record_events(session, held, [("checkpoint", {"step": values["step"]})])
        of_job = Checkpoint.job_id == job.id
        kept = select(Checkpoint.step).where(of_job).order_by(Checkpoint.step.desc()).limit(KEPT)
        obsolete = delete(Checkpoint).where(of_job, Checkpoint.step.not_in(kept)).returning(Checkpoint.key)
        return list(session.scalars(obsolete.execution_options(synchronize_session=False)))
