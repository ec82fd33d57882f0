"""What a tenant calls a model, and which row that is: asked at every request, so on the event loop's own connection.

Through the pool, a session and a thread, the same statement took 2 ms of a busy core: an eighth of all that a small
image takes.
"""

import asyncio
from contextlib import suppress
from typing import NamedTuple

import psycopg
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from service.core.db import CONNECTION

ANSWER_SECONDS = 2  # within which a database that is there answers
STATEMENT = """
    select id, xmin::text from model where tenant = %(tenant)s
    and (id = %(name)s or id = (select model_id from alias where tenant = %(tenant)s and name = %(name)s))
"""


class Name(NamedTuple):
    """What a tenant calls a model: its id or an alias."""

    tenant: str
    name: str


class RowVersion(NamedTuple):
    """A model's row, and the transaction that wrote it last."""

    model_id: str
    xmin: str


class ModelNames:
    """Looks names up, for one event loop."""

    def __init__(self, engine: Engine) -> None:
        _, self._parameters = engine.dialect.create_connect_args(engine.url)
        self._connection: psycopg.AsyncConnection[tuple[str, str]] | None = None
        self._connecting = asyncio.Lock()

    async def find(self, name: Name) -> RowVersion | None:
        """The row that a name means now. Raises OperationalError, SQLAlchemy's, while the database is away."""
        try:
            with suppress(psycopg.OperationalError):  # the connection may be from before a restart
                return await self._ask(name)
            return await self._ask(name)
        except (psycopg.OperationalError, TimeoutError) as error:
            raise OperationalError(STATEMENT, None, error) from error

    async def _ask(self, name: Name) -> RowVersion | None:
        connection = await self._connected()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                cursor = await connection.execute(STATEMENT, name._asdict(), prepare=True)
                row = await cursor.fetchone()
        except (psycopg.OperationalError, TimeoutError):
            await connection.close()
            raise
        return RowVersion(*row) if row else None

    async def _connected(self) -> psycopg.AsyncConnection[tuple[str, str]]:
        async with self._connecting:
            if self._connection is None or self._connection.closed:
                self._connection = await psycopg.AsyncConnection.connect(
                    autocommit=True, **self._parameters, **CONNECTION
                )
            return self._connection

    async def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            await self._connection.close()
