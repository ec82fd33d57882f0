"""The agent of one placement: it runs the job's process on this node and speaks for it to the database.

    claim -> prepare the run folder -> process -> publish -> end, or requeue; or, of another node than the first, leave

A gang has an agent on each of its nodes. The first node's has the events, the checkpoints and the result, and it alone
ends the attempt, when its own processes have ended and their last checkpoint is stored. The others leave when theirs
have, and say why if they were lost; so the reason is the cause, not who was first to notice a consequence.

It never waits without the lease's ticks: what blocks for long (copies to and from the storage) runs in the background.
The process lives on while Redis is away, and while the database is away until the lease is over.
"""

import math
import shutil
import time
from collections.abc import Callable
from concurrent.futures import wait
from contextlib import AbstractContextManager

import structlog
from sqlalchemy.orm import Session

from service.core import jobs, tracing
from service.core.errors import ServiceError
from service.core.tables import Job, Placement
from trainer import publish
from trainer.background import in_background
from trainer.host import Host
from trainer.lease import TICK_SECONDS, CancelRequested, Lease, LeaseLost
from trainer.outcome import (
    Cancelled,
    Failed,
    Interrupted,
    Left,
    Loss,
    Lost,
    Outcome,
    PeerLost,
    Succeeded,
    outcome_of,
    outcome_of_error,
)
from trainer.placement import report_loss
from trainer.prepare import prepare_run
from trainer.process import JobProcess, command_line, environment
from trainer.relay import EventTail
from trainer.run import RunError, RunFolder
from trainer.uploads import CheckpointUploads

INTERRUPT_SECONDS = 20  # for the end of a step and its checkpoint, when a process is to stop
CAUSE_SECONDS = 3  # for another agent to say why one of its processes was lost
NOTICE_SECONDS = 5  # for the processes here to notice that others are lost, or to checkpoint with them

Ending = Callable[[Session], Job]

logger: structlog.stdlib.BoundLogger = structlog.get_logger()


class Agent:
    """Runs one attempt of one job."""

    def __init__(self, host: Host, job_id: str, attempt: int, token: str) -> None:
        self.host = host
        self.job_id = job_id
        self.attempt = attempt
        runs_dir = host.settings.runs_dir(host.settings.node_name)
        self.run_folder = RunFolder((runs_dir / job_id / str(attempt)).resolve())
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
            with self._span(job, placement) as span:
                log.info("attempt begins", kind=job.kind, node_rank=placement.node_rank)
                try:
                    ending = self._attempt(job, placement)
                finally:
                    self._store_log(placement.node_rank)
                self.lease.relay_rest()
                job = self.lease.persist(ending)
                log.info("attempt over", status=job.status)
                span.note(status=job.status)
            if job.status == "succeeded":
                self._delete_old_checkpoints()
        except (jobs.Fenced, LeaseLost) as reason:
            log.warning("attempt dropped", reason=str(reason))
        finally:
            shutil.rmtree(self.run_folder.path, ignore_errors=True)

    def _span(self, job: Job, placement: Placement) -> AbstractContextManager[tracing.Span]:
        return tracing.span(
            "attempt",
            parent=job.traceparent,
            kind="consumer",
            job_id=job.id,
            attempt=job.attempt,
            job_kind=job.kind,
            tenant=job.tenant,
            node=placement.node_name,
            node_rank=placement.node_rank,
        )

    def _attempt(self, job: Job, placement: Placement) -> Ending:
        """All but the last transaction, which is returned. Raises Fenced and LeaseLost."""
        try:
            outcome = self._run_process(job, placement)
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
        return lambda session: self._end(session, outcome, placement)

    def _publication(self, job: Job, outcome: Succeeded) -> Ending:
        storage, run, result = self.host.storage, self.run_folder, outcome.result
        record = self.lease.wait_for(in_background(lambda: publish.upload(storage, job, run, result)))
        return lambda session: publish.finish(session, self.job_id, self.attempt, record)

    def _run_process(self, job: Job, placement: Placement) -> Outcome:
        preparing = in_background(lambda: prepare_run(self.host, job, self.run_folder, placement))
        while not preparing.done():
            if end := self._end_before_start():
                return end
            self.lease.pause()
        preparing.result()
        number = placement.num_slots if placement.slot == "cuda" else 0
        while (gpus := self.host.gpus.take(number)) is None:  # the process that had them may need a moment to die
            if end := self._end_before_start():
                return end
            self.lease.pause()
        try:
            environ = environment(self.host.settings, job.kind, placement, len(self.host.gpus.devices))
            process = JobProcess(
                command_line(self.host.commands[job.kind], job, placement, self.run_folder),
                self.run_folder,
                environ | self.host.gpus.environment(gpus),
            )
            try:
                return self._supervise(process, CheckpointUploads(self.host, job, self.run_folder), placement)
            finally:
                process.kill()
        finally:
            self.host.gpus.give_back(gpus)

    def _end_before_start(self) -> Outcome | None:
        return Interrupted() if self.host.stopping.is_set() else self.lease.loss_of_others

    def _supervise(self, process: JobProcess, uploads: CheckpointUploads, placement: Placement) -> Outcome:
        kill_at, was_interrupted, was_killed = math.inf, False, False
        while (returncode := process.wait(TICK_SECONDS)) is None:
            self.lease.beat()
            uploads.advance()
            others = self.lease.loss_of_others
            has_cause = others and not isinstance(others, PeerLost)  # an agent's silence: its processes may be well
            if not was_interrupted and (self.host.stopping.is_set() or self.lease.asked_to_yield or has_cause):
                process.interrupt()
                kill_at, was_interrupted = time.monotonic() + INTERRUPT_SECONDS, True
            if others:  # the processes here notice it by themselves, unless they hang
                kill_at = min(kill_at, time.monotonic() + NOTICE_SECONDS)
            if time.monotonic() > kill_at:
                process.kill()
                was_killed = True
        process.kill()
        while not uploads.advance():
            self.lease.pause()
        outcome = outcome_of(
            self.run_folder,
            returncode,
            interrupted=was_interrupted,
            out_of_memory=process.was_out_of_memory(),
            is_first_node=placement.node_rank == 0,
        )
        if placement.node_rank == 0 and (was_killed or isinstance(outcome, PeerLost)):
            return self._loss_of_others() or outcome
        if placement.node_rank == 0 and isinstance(outcome, Interrupted):
            return self.lease.loss_of_others or outcome
        return outcome

    def _loss_of_others(self) -> Outcome | None:
        """Why the processes of another node ended; its agent may need a moment to say so."""
        until = time.monotonic() + CAUSE_SECONDS
        while self.lease.loss_of_others is None and time.monotonic() < until:
            self.lease.pause()
        return self.lease.loss_of_others

    def _store_log(self, node_rank: int) -> None:
        """Store what the process printed; the job's end neither waits long for it nor fails with it."""
        storage, log, key = self.host.storage, self.run_folder.log, jobs.log_key(self.job_id, self.attempt, node_rank)
        if log.exists():
            storing = in_background(lambda: storage.put_file(key, log))
            wait([storing], timeout=self.host.settings.lease_seconds / 4)

    def _delete_old_checkpoints(self) -> None:
        """What is left of them when this fails takes space, nothing more."""
        database, storage = self.host.database, self.host.storage
        deleting = in_background(lambda: publish.delete_old_checkpoints(database, storage, self.job_id))
        wait([deleting], timeout=self.host.settings.lease_seconds / 4)

    def _end(self, session: Session, outcome: Outcome, placement: Placement) -> Job:
        """Only the first node's agent ends the attempt; another one's says why it leaves, if all isn't well."""
        job = jobs.hold(session, self.job_id, self.attempt)
        if job.status == "cancelling" or isinstance(outcome, Cancelled | Left):
            return jobs.leave(session, job, self.lease.token)
        assert isinstance(outcome, Loss)
        if placement.node_rank > 0:
            report_loss(session, self.lease.token, outcome)
            return jobs.leave(session, job, self.lease.token)
        if isinstance(outcome, Failed):
            return publish.finish_failed(session, self.job_id, self.attempt, outcome)
        if isinstance(outcome, Lost):
            max_attempts = self.host.settings.max_attempts
            return jobs.lose(session, job, outcome.reason, outcome.message, max_attempts=max_attempts)
        return jobs.requeue(session, job, "more_nodes" if job.asked_to_yield else "worker_stopped")
