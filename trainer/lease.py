"""An agent's hold on its job: it relays the process's events, keeps the lease, and hears what is wanted of the job.

A database that is away, or doesn't answer, is waited for until the lease is over: then the job may be placed elsewhere.
"""

import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

import structlog
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnection
from sqlalchemy.orm import Session

from service.core import jobs
from service.core.db import Database
from service.core.tables import Job, Placement
from trainer.background import in_background
from trainer.outcome import Loss
from trainer.placement import claim, count_relayed, loss_of_others, renew_lease
from trainer.relay import Event, EventTail, progress_of

TICK_SECONDS = 0.25
RENEW_AFTER = 1 / 4  # of the lease

T = TypeVar("T")

logger: structlog.stdlib.BoundLogger = structlog.get_logger()


class CancelRequested(Exception):
    """The job is to be cancelled."""


class LeaseLost(Exception):
    """The database was away for longer than the lease."""


class Lease:
    """The right to run one attempt of a job, until it is over or taken away."""

    def __init__(
        self, database: Database, job_id: str, attempt: int, token: str, *, lease_seconds: float, tail: EventTail
    ) -> None:
        self.database = database
        self.job_id = job_id
        self.attempt = attempt
        self.token = token
        self.lease_seconds = lease_seconds
        self.tail = tail
        self.asked_to_yield = False  # the job is to be given back after a checkpoint
        self.loss_of_others: Loss | None = None  # why the processes of another node ended, if one's did
        self._asked_at = time.monotonic()
        self._until = self._asked_at + lease_seconds

    def claim(self) -> tuple[Job, Placement]:
        """Begin. Raises Fenced if the token is stale."""
        return self.persist(
            lambda session: claim(session, self.job_id, self.attempt, self.token, lease_seconds=self.lease_seconds)
        )

    def beat(self) -> None:
        """One tick. Raises CancelRequested, Fenced or LeaseLost."""
        self._relay()
        orders, self.loss_of_others = self.persist(self._look)
        if orders == jobs.Orders.CANCEL:
            raise CancelRequested
        self.asked_to_yield = orders == jobs.Orders.YIELD

    def wait_for(self, future: Future[T]) -> T:
        """The result of background work, ticking meanwhile."""
        while not future.done():
            self.beat()
            wait([future], timeout=TICK_SECONDS)
        return future.result()

    def pause(self) -> None:
        """Wait for one tick."""
        self.beat()
        time.sleep(TICK_SECONDS)

    def relay_rest(self) -> None:
        """Store all events of a process that has ended."""
        while self.tail.pending():
            self._relay()

    def persist(self, write: Callable[[Session], T]) -> T:
        """The result of a transaction, tried until it commits. Raises LeaseLost, and what `write` raises."""
        while (seconds_left := self._until - time.monotonic()) > 0:
            transaction = in_background(lambda: self._transact(write))  # this thread must not hang with the database
            wait([transaction], timeout=seconds_left)
            try:
                return transaction.result(timeout=0)
            except TimeoutError:
                break
            except (OperationalError, InterfaceError, NoConnection) as error:
                logger.warning("database away", job_id=self.job_id, error=str(error.__cause__ or error))
                time.sleep(TICK_SECONDS)
        raise LeaseLost("the database was away for longer than the lease")

    def _transact(self, write: Callable[[Session], T]) -> T:
        with self.database.transaction() as session:
            return write(session)

    def _relay(self) -> None:
        """Store the next events and renew the lease, if one of both is due."""
        events = self.tail.pending()
        renew_at = self._until - self.lease_seconds * (1 - RENEW_AFTER)
        if events or time.monotonic() >= renew_at:
            self.persist(lambda session: self._write(session, events))
            self._until = self._asked_at + self.lease_seconds
            self.tail.relayed(len(events))

    def _look(self, session: Session) -> tuple[jobs.Orders, Loss | None]:
        orders = jobs.orders(session, self.job_id, self.attempt)
        return orders, loss_of_others(session, self.job_id, self.attempt)

    def _write(self, session: Session, events: list[Event]) -> None:
        """Store events and how many they are: after a commit whose answer was lost, none is stored twice."""
        self._asked_at = time.monotonic()
        job = jobs.hold(session, self.job_id, self.attempt)
        num_stored = renew_lease(session, self.token, lease_seconds=self.lease_seconds)
        new = events[num_stored - self.tail.num_relayed :]
        if new:
            jobs.record_events(session, job, new)
            count_relayed(session, self.token, num_stored + len(new))
            job.progress = progress_of(new) or job.progress
