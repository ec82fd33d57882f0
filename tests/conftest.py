"""The real servers that the tests run against: one embedded PostgreSQL and one Valkey a session."""

import itertools
import os
import secrets
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

from service.core.db import Database
from service.core.schema import migrate
from service.core.storage import LocalStorage
from service.core.tables import Base
from service.embedded.postgres import EmbeddedPostgres
from service.embedded.valkey import EmbeddedValkey
from tests.stack import Stack, running_stack


def pytest_addoption(parser: pytest.Parser) -> None:
    """What a test may be told."""
    parser.addoption("--long", action="store_true", help="try random orders of requests for an hour, not for seconds")


@pytest.fixture(scope="session")
def server_folder() -> Iterator[Path]:
    """A folder for the session's servers, with a space as people have it; pytest's own would outlive the session."""
    with tempfile.TemporaryDirectory(prefix="simclr tests ") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def postgres_url(server_folder: Path) -> Iterator[str]:
    """A migrated database on a server of its own, or a new one on the server that the environment names."""
    if shared := os.environ.get("TESTS_POSTGRES_URL"):
        with _copy_of(shared) as url:
            yield url
        return
    server = EmbeddedPostgres(server_folder / "postgres", server_folder / "postgres.log")
    url = server.start()
    migrate(url)
    yield url
    server.stop()


@contextmanager
def _copy_of(url: str) -> Iterator[str]:
    """A migrated database beside the one at `url`, which nobody is connected to; it is dropped after the session."""
    name = f"tests_{os.getpid()}_{secrets.token_hex(4)}"
    with psycopg.connect(url.replace("/postgres?", "/template1?"), autocommit=True) as connection:
        connection.execute(f"create database {name} template postgres")
        yield url.replace("/postgres?", f"/{name}?")
        connection.execute(f"drop database {name} with (force)")


@pytest.fixture(scope="session")
def redis_url(server_folder: Path) -> Iterator[str]:
    """A Valkey server, or the one that the environment names."""
    if shared := os.environ.get("TESTS_REDIS_URL"):
        yield shared
        return
    server = EmbeddedValkey(server_folder / "valkey", server_folder / "valkey.log")
    yield server.start()
    server.stop()


@pytest.fixture(scope="session")
def create_database(postgres_url: str) -> Callable[[], str]:
    """Makes an empty database on the same server, without tables; its URL."""
    numbers = itertools.count(1)

    def create() -> str:
        name = f"extra_{next(numbers)}"
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute(f"create database {name}")
        return postgres_url.replace("/postgres?", f"/{name}?")

    return create


@pytest.fixture(scope="session")
def stack(server_folder: Path) -> Iterator[Stack]:
    """The whole service, running: for tests over HTTP that leave it running and empty of what would disturb others."""
    folder = server_folder / "stack"
    folder.mkdir()
    with running_stack(folder) as stack:
        yield stack


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test that used the stack shows the stack's logs."""
    report = yield
    stack = getattr(item, "funcargs", {}).get("stack")
    if report.failed and stack is not None:
        report.sections.append(("logs of the stack", stack.tails()))
    return report


@pytest.fixture
def database(postgres_url: str) -> Iterator[Database]:
    """The database; whatever a test leaves in it is gone after the test."""
    database = Database(postgres_url)
    yield database
    _empty(database)
    database.close()


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    """An empty storage."""
    return LocalStorage(tmp_path / "storage")


def _empty(database: Database) -> None:
    """Drop the tables of vectors and delete all rows."""
    vectors = text("select tablename from pg_tables where schemaname = 'public' and tablename ~ '^emb_[0-9]+'")
    with database.transaction() as session:
        for name in session.execute(vectors).scalars().all():
            session.execute(text(f"drop table {name} cascade"))
        tables = ", ".join(table.name for table in Base.metadata.sorted_tables)
        session.execute(text(f"truncate {tables} restart identity cascade"))
