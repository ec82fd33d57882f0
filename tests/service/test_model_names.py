"""Looking a model's name up, against a real PostgreSQL."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from service.core.db import Database
from service.core.storage import LocalStorage
from service.core.tables import DEFAULT_TENANT, Alias, Model
from service.model_names import ModelNames, Name, RowVersion
from tests.small_models import publish

PRODUCTION = Name(DEFAULT_TENANT, "production")


def with_names(database: Database, use: Callable[[ModelNames], Awaitable[None]]) -> None:
    async def run() -> None:
        names = ModelNames(database.engine)
        try:
            await use(names)
        finally:
            await names.close()

    asyncio.run(run())


def version(found: RowVersion | None) -> str:
    assert found is not None
    return found.xmin


def test_an_id_and_an_alias_mean_their_row(database: Database, storage: LocalStorage) -> None:
    """Each in its own tenant; a row that is written again has another version, and one that isn't the same."""
    served, other = (publish(database, storage, alias=alias).id for alias in ("production", None))

    async def use(names: ModelNames) -> None:
        first = await names.find(PRODUCTION)
        assert first is not None
        assert first.model_id == served
        assert await names.find(Name(DEFAULT_TENANT, served)) == first
        assert (await names.find(Name(DEFAULT_TENANT, other)) or first).model_id == other
        for unknown in (Name(DEFAULT_TENANT, "staging"), Name("stranger", "production"), Name("stranger", served)):
            assert await names.find(unknown) is None
        with database.transaction() as session:
            session.get_one(Model, served).probes = {"knn_probe": {"top1": 0.5}}
        assert version(await names.find(PRODUCTION)) != first.xmin
        with database.transaction() as session:
            session.get_one(Alias, (DEFAULT_TENANT, "production")).model_id = other
        assert (await names.find(PRODUCTION) or first).model_id == other

    with_names(database, use)


def test_a_connection_that_was_ended_is_made_anew(database: Database, storage: LocalStorage) -> None:
    """As after a restart of PostgreSQL: the next look-up finds, and many at once do, too."""
    served = publish(database, storage).id

    async def use(names: ModelNames) -> None:
        await names.find(PRODUCTION)
        with database.transaction() as session:
            others = "pid <> pg_backend_pid() and query like '%xmin%' and state = 'idle'"
            session.execute(text(f"select pg_terminate_backend(pid) from pg_stat_activity where {others}"))
        found = await asyncio.gather(*(names.find(PRODUCTION) for _ in range(5)))
        assert [row and row.model_id for row in found] == [served] * 5

    with_names(database, use)


def test_a_database_that_is_away() -> None:
    """It says so, as SQLAlchemy does."""
    away = Database("postgresql://nobody@127.0.0.1:1/none")

    async def use(names: ModelNames) -> None:
        with pytest.raises(OperationalError):
            await names.find(PRODUCTION)

    with_names(away, use)
