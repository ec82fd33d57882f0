"""Connections to PostgreSQL. One request or task is one transaction."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from pgvector.psycopg import register_vector
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session, sessionmaker

AWAY = (OperationalError, InterfaceError, PoolTimeout)  # what a database that doesn't answer raises


# A frozen peer must hold neither a connection nor a row's lock for ever. A statement is planned with its values: a plan
# for any value, which PostgreSQL takes from a statement's sixth use on, finds 1 image in 1,000 by reading all.
CONNECTION = {
    "connect_timeout": 2,
    "tcp_user_timeout": 10_000,
    "keepalives_idle": 10,
    "options": "-c idle_in_transaction_session_timeout=60s -c plan_cache_mode=force_custom_plan",
}


def sqlalchemy_url(database_url: str) -> str:
    """The URL with the driver that this project uses."""
    return "postgresql+psycopg://" + database_url.split("://", 1)[1]


def connect(database_url: str) -> Engine:
    """A pool of connections that return and take vectors as NumPy arrays."""
    engine = create_engine(
        sqlalchemy_url(database_url),
        pool_pre_ping=True,
        pool_size=10,
        max_overflow=20,
        pool_timeout=2,
        connect_args=CONNECTION,
    )

    @event.listens_for(engine, "connect")
    def _register(connection: psycopg.Connection[Any], _record: object) -> None:
        register_vector(connection)

    return engine


class Database:
    """The engine and its transactions."""

    def __init__(self, database_url: str) -> None:
        self.engine = connect(database_url)
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)
        self._glances = sessionmaker(self.engine.execution_options(isolation_level="AUTOCOMMIT"))

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """A session that commits when the block ends, or rolls back if it raises."""
        with self._sessions.begin() as session:
            yield session

    @contextmanager
    def glance(self) -> Iterator[Session]:
        """A session for one reading statement, without the two round trips of a transaction around it."""
        with self._glances() as session:
            yield session

    def close(self) -> None:
        """Close the pool."""
        self.engine.dispose()
