"""The scheduler: one leader among all workers gives queued jobs to nodes and takes them from nodes that fell silent.

The leader is who holds an advisory lock; all its work goes over the connection that holds it, so a scheduler that lost
the lock can't act. One that is frozen loses it after a lease. Time is the database's.
"""

import threading
import time

import structlog
from celery import Celery
from kombu.exceptions import OperationalError as BrokerAway
from sqlalchemy import Connection, Engine, delete, func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnection
from sqlalchemy.orm import Session

from service.core.db import AWAY
from service.core.queue import RUN_PLACEMENT, node_queue
from service.core.settings import Settings
from service.core.tables import Node, Placement
from trainer import placement, placing
from trainer.ablation import advance_ablations

LOCK = 0x51_3C_14  # any number that nothing else of this database locks
TICK_SECONDS = 0.25
RETRY_SECONDS = 1
WARN_SECONDS = 5
FORGET_NODE_SECONDS = 3600

logger: structlog.stdlib.BoundLogger = structlog.get_logger()


class Scheduler:
    """A candidate for leadership, and the leader's work."""

    def __init__(self, engine: Engine, app: Celery, settings: Settings) -> None:
        self.engine = engine
        self.app = app
        self.settings = settings
        self._broker_is_away = False
        self._warn_at = 0.0

    def run(self, stopping: threading.Event) -> None:
        """Lead or wait to lead until `stopping` is set."""
        while not stopping.is_set():
            try:
                with self.engine.connect() as connection:
                    connection.detach()  # closed at the end, and the lock with it, not given to someone else
                    self._let_go_when_frozen(connection)
                    self._lead(connection, stopping)
            except (DBAPIError, NoConnection) as error:
                what = "scheduler without database" if isinstance(error, AWAY) else "scheduler begins again"
                logger.warning(what, error=str(error.__cause__ or error))
                stopping.wait(RETRY_SECONDS)

    def _lead(self, connection: Connection, stopping: threading.Event) -> None:
        while not self._is_leader(connection):
            if stopping.wait(RETRY_SECONDS):
                return
        logger.info("scheduler leads", node=self.settings.node_name)
        while not stopping.wait(TICK_SECONDS):
            self.tick(connection)

    def _let_go_when_frozen(self, connection: Connection) -> None:
        """Have the server end this session, and with it the leadership, when nothing was heard of it for a lease."""
        milliseconds = round(1000 * self.settings.lease_seconds)
        with connection.begin():
            for where in ("idle_session_timeout", "idle_in_transaction_session_timeout"):
                connection.exec_driver_sql(f"set {where} = {milliseconds}")

    def _is_leader(self, connection: Connection) -> bool:
        with connection.begin():
            return bool(connection.scalar(select(func.pg_try_advisory_lock(LOCK))))

    def tick(self, connection: Connection) -> None:
        """Take back, place, tell the nodes: each in transactions of its own."""
        lease_seconds = self.settings.lease_seconds
        with Session(connection) as session, session.begin():
            placement.expire_leases(session, lease_seconds=lease_seconds, max_attempts=self.settings.max_attempts)
            placement.renew_unclaimed_tokens(session)
            session.execute(delete(Node).where(~placement.is_alive(FORGET_NODE_SECONDS)))
        advance_ablations(connection)
        with Session(connection) as session, session.begin():
            placing.place_jobs(session, lease_seconds=lease_seconds)
        with Session(connection) as session, session.begin():
            growth_seconds = self.settings.growth_seconds
            placing.ask_to_grow(session, lease_seconds=lease_seconds, growth_seconds=growth_seconds)
        if time.monotonic() > self._warn_at:
            with Session(connection) as session, session.begin():
                placing.warn_of_missing_nodes(session, lease_seconds=lease_seconds)
            self._warn_at = time.monotonic() + WARN_SECONDS
        self._tell(connection)

    def _tell(self, connection: Connection) -> None:
        """Publish what no node was told. Told twice, a node drops the second message: its token is claimed."""
        with Session(connection, expire_on_commit=False) as session, session.begin():
            unsent = placement.unsent(session)
        for row in unsent:
            if not self._publish(row):
                return
            with Session(connection) as session, session.begin():
                placement.mark_sent(session, row.token)

    def _publish(self, row: Placement) -> bool:
        """Ring at the node; whether the broker took it.

        The message has no expiry, which two hosts' clocks would decide; a late one is worthless by its token.
        """
        try:
            self.app.send_task(
                RUN_PLACEMENT, args=(row.job_id, row.attempt, row.token), queue=node_queue(row.node_name)
            )
        except BrokerAway as error:
            if not self._broker_is_away:
                logger.warning("broker away", error=str(error))
            self._broker_is_away = True
            return False
        self._broker_is_away = False
        return True
