"""The agent of one placement: it runs the job's process on this node and speaks for it to the database.

    claim -> prepare the run folder -> process -> publish -> end, or requeue

It never waits without the lease's ticks: what blocks for long (copies to and from the storage) runs in the background.
The process lives on while Redis is away, and while the database is away until the lease is over.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from contextlib import contextmanager

import structlog
from sqlalchemy.orm import Session

from service.core import jobs
from service.core.errors import ServiceError
from service.core.tables import Job
from trainer import publish
from trainer.background import in_background
from trainer.devices import visible_devices
from trainer.host import Host
from trainer.lease import TICK_SECONDS, CancelRequested, Lease, LeaseLost
from trainer.outcome import Cancelled, Failed, Interrupted, Lost, Outcome, Succeeded, outcome_of, outcome_of_error
from trainer.prepare import prepare_run
from trainer.process import JobProcess, command_line, environment
from trainer.relay import EventTail
from trainer.run import RunError, RunFolder
from trainer.uploads import CheckpointUploads

INTERRUPT_SECONDS = 6  # for the end of a step and its checkpoint, when the worker is to stop

Ending = Callable[[Session], Job]

logger: structlog.stdlib.BoundLogger = structlog.get_logger()


class Agent:
    """Runs one attempt of one job."""

    def __init__(self, host: Host, job_id: str, attempt: int, token: str) -> None:
        self.host = host
        self.job_id = job_id
        self.attempt = attempt
        self.run_folder = RunFolder((host.settings.runs_dir / job_id / str(attempt)).resolve())
        self.lease = Lease(
            host.database,
            job_id,
            attempt,
            token,
            lease_seconds=host.settings.lease_seconds,
            tail=EventTail(self.run_folder.events),
        )

    def run(self) -> None:
        """Claim the placement and see it to its end; a stale message is dropped."""
        log = logger.bind(job_id=self.job_id, attempt=self.attempt)
        try:
            job, placement = self.lease.claim()
            log.info("attempt begins", kind=job.kind)
            ending = self._attempt(job, placement.slot)
            self._store_log()
            self.lease.relay_rest()
            job = self.lease.persist(ending)
            log.info("attempt over", status=job.status)
            if job.status == "succeeded":
                self._delete_old_checkpoints()
        except (jobs.Fenced, LeaseLost) as reason:
            log.warning("attempt dropped", reason=str(reason))
        finally:
            shutil.rmtree(self.run_folder.path, ignore_errors=True)

    def _attempt(self, job: Job, slot: str) -> Ending:
        """All but the last transaction, which is returned. Raises Fenced and LeaseLost."""
        try:
            outcome = self._run_process(job, slot)
            if isinstance(outcome, Succeeded):
                return self._publication(job, outcome)
        except (jobs.Fenced, LeaseLost):
            raise
        except CancelRequested:
            outcome = Cancelled()
        except RunError as error:
            outcome = Failed(error.code, error.message)
        except ServiceError as error:
            outcome = outcome_of_error(error)
        except Exception as error:  # the process boundary
            logger.exception("attempt broke", job_id=self.job_id, attempt=self.attempt)
            outcome = Lost("internal", f"{type(error).__name__}: {error}")
        return lambda session: self._end(session, outcome)

    def _publication(self, job: Job, outcome: Succeeded) -> Ending:
        storage, run, result = self.host.storage, self.run_folder, outcome.result
        record = self.lease.wait_for(in_background(lambda: publish.upload(storage, job, run, result)))
        return lambda session: publish.finish(session, self.job_id, self.attempt, record)

    def _run_process(self, job: Job, slot: str) -> Outcome:
        preparing = in_background(lambda: prepare_run(self.host, job, self.run_folder, slot=slot))
        while not preparing.done():
            if self.host.stopping.is_set():
                return Interrupted()
            self.lease.pause()
        preparing.result()
        with self._gpu(slot) as gpu:
            process = JobProcess(
                command_line(self.host.commands[job.kind], job, self.run_folder),
                self.run_folder,
                environment(self.host.settings, job.kind) | visible_devices(gpu),
            )
            try:
                return self._supervise(process, CheckpointUploads(self.host, job, self.run_folder))
            finally:
                process.kill()

    @contextmanager
    def _gpu(self, slot: str) -> Iterator[int | None]:
        """The GPU of a cuda slot; the process that had it may need a moment to die."""
        index = None
        while slot == "cuda" and (index := self.host.gpus.take()) is None:
            self.lease.pause()
        try:
            yield index
        finally:
            if index is not None:
                self.host.gpus.give_back(index)

    def _supervise(self, process: JobProcess, uploads: CheckpointUploads) -> Outcome:
        kill_at = None
        while (returncode := process.wait(TICK_SECONDS)) is None:
            self.lease.beat()
            uploads.advance()
            if kill_at is None and self.host.stopping.is_set():
                process.interrupt()
                kill_at = time.monotonic() + INTERRUPT_SECONDS
            elif kill_at is not None and time.monotonic() > kill_at:
                process.kill()
        process.kill()
        while not uploads.advance():
            self.lease.pause()
        out_of_memory = process.was_out_of_memory()
        return outcome_of(self.run_folder, returncode, interrupted=kill_at is not None, out_of_memory=out_of_memory)

    def _store_log(self) -> None:
        """Store what the process printed; the job's end neither waits long for it nor fails with it."""
        storage, log = self.host.storage, self.run_folder.log
        if log.exists():
            storing = in_background(lambda: storage.put_file(f"jobs/{self.job_id}/log-{self.attempt}.txt", log))
            wait([storing], timeout=self.host.settings.lease_seconds / 4)

    def _delete_old_checkpoints(self) -> None:
        """What is left of them when this fails takes space, nothing more."""
        database, storage = self.host.database, self.host.storage
        deleting = in_background(lambda: publish.delete_old_checkpoints(database, storage, self.job_id))
        wait([deleting], timeout=self.host.settings.lease_seconds / 4)

    def _end(self, session: Session, outcome: Outcome) -> Job:
        if isinstance(outcome, Failed):
            return publish.finish_failed(session, self.job_id, self.attempt, outcome)
        job = jobs.hold(session, self.job_id, self.attempt)
        if isinstance(outcome, Lost):
            max_attempts = self.host.settings.max_attempts
            return jobs.lose(session, job, outcome.reason, outcome.message, max_attempts=max_attempts)
        if isinstance(outcome, Interrupted):
            return jobs.requeue(session, job, "worker_stopped")
        return jobs.cancel(session, job)
