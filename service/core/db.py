"""Connections to PostgreSQL. One request or task is one transaction.

A database that is bound to a tenant (`Database.of`) shows its sessions no rows of another one: every ORM statement on
an `Owned` table gets the tenant as a condition, so that nobody has to remember it. Some kinds of statement stand
outside and name the tenant themselves: inserts that aren't made from objects, text, and deletions by an alias
(SQLAlchemy warns of these, which fails a test).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any

import psycopg
from pgvector.psycopg import register_vector
from psycopg.types.json import set_json_loads
from pydantic_core import from_json
from sqlalchemy import Engine, ExceptionContext, create_engine, event
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import ORMExecuteState, Session, with_loader_criteria

from service.core.tables import Owned

AWAY = (OperationalError, InterfaceError, PoolTimeout)  # what a database that doesn't answer raises


# A statement is planned with its values: a plan for any value, which PostgreSQL takes from a statement's sixth use on,
# finds 1 image in 1,000 by reading all.
CONNECTION: dict[str, Any] = {
    "connect_timeout": 2,
    "tcp_user_timeout": 10_000,
    "keepalives_idle": 10,
}
OPTIONS = "-c plan_cache_mode=force_custom_plan -c idle_in_transaction_session_timeout={milliseconds:.0f}"
MAX_SILENCE_SECONDS = 60


def sqlalchemy_url(database_url: str) -> str:
    """The URL with the driver that this project uses."""
    return "postgresql+psycopg://" + database_url.split("://", 1)[1]


def connect(database_url: str, max_silence_seconds: float = MAX_SILENCE_SECONDS) -> Engine:
    """A pool of connections that return and take vectors as NumPy arrays.

    The server ends one that says nothing in the middle of a transaction for longer than `max_silence_seconds`: a frozen
    process must not hold the lock of a row.
    """
    engine = create_engine(
        sqlalchemy_url(database_url),
        pool_pre_ping=True,
        pool_size=10,
        max_overflow=20,
        pool_timeout=2,
        connect_args=CONNECTION | {"options": OPTIONS.format(milliseconds=1000 * max_silence_seconds)},
    )

    @event.listens_for(engine, "connect")
    def _register(connection: psycopg.Connection[Any], _record: object) -> None:
        register_vector(connection)
        set_json_loads(from_json, connection)  # faster than json.loads, and as exact in large integers

    @event.listens_for(engine, "handle_error")
    def _count_as_away(context: ExceptionContext) -> None:
        error = context.original_exception
        if isinstance(error, psycopg.errors.IdleInTransactionSessionTimeout):  # not an OperationalError by itself
            raise OperationalError(context.statement, None, error, connection_invalidated=True) from error

    return engine


TENANT = "tenant"  # of a session's info


class TenantSession(Session):
    """A session of one tenant."""


@event.listens_for(TenantSession, "do_orm_execute")
def _only_own_rows(state: ORMExecuteState) -> None:
    if state.is_select or state.is_update or state.is_delete:
        tenant = tenant_of(state.session)
        own = with_loader_criteria(Owned, lambda cls: cls.tenant == tenant, include_aliases=True)
        state.statement = state.statement.options(own)


@event.listens_for(TenantSession, "before_flush")
def _own_new_rows(session: Session, _context: object, _instances: object) -> None:
    for row in session.new:
        if isinstance(row, Owned):
            assert row.tenant in {None, tenant_of(session)}, row
            row.tenant = tenant_of(session)


def tenant_of(session: Session) -> str:
    """The tenant that a session is bound to; one that isn't bound to any has none (KeyError)."""
    tenant: str = session.info[TENANT]
    return tenant


class Database:
    """The engine and its transactions: of all tenants, unless it is bound to one."""

    def __init__(self, database_url: str, *, max_silence_seconds: float = MAX_SILENCE_SECONDS) -> None:
        self.engine = connect(database_url, max_silence_seconds)
        self.tenant: str | None = None

    def of(self, tenant: str) -> "Database":
        """The same database as one tenant sees it."""
        bound = copy(self)
        bound.tenant = tenant
        return bound

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """A session that commits when the block ends, or rolls back if it raises."""
        with self._session() as session, session.begin():
            yield session

    def _session(self) -> Session:
        if self.tenant is None:
            return Session(self.engine, expire_on_commit=False)
        return TenantSession(self.engine, expire_on_commit=False, info={TENANT: self.tenant})

    def close(self) -> None:
        """Close the pool."""
        self.engine.dispose()
