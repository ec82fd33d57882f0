"""The database's schema: brought to this release's by migrations (service/migrations)."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, NullPool, create_engine, text
from sqlalchemy.exc import NotSupportedError, OperationalError, ProgrammingError

from service.core.db import sqlalchemy_url

MIGRATIONS = Path(__file__).parent.parent / "migrations"
LOCK = 0x51_3C_12  # any number; the same for all that migrate
MIN_PGVECTOR = (0, 8, 4)  # earlier ones corrupt HNSW indexes under vacuum


class UnusableDatabase(RuntimeError):
    """The server can't hold the service's tables; the message says what it lacks."""


def migrate(database_url: str) -> None:
    """Bring the schema to this release's, once however many processes ask at the same time. Raises UnusableDatabase."""
    engine = create_engine(sqlalchemy_url(database_url), poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        upgrade(connection)


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Bring the schema to a revision in the connection's transaction. Raises UnusableDatabase."""
    _prepare_pgvector(connection)
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def current_revision(connection: Connection) -> str | None:
    """The revision of the tables that are there; None: there are none."""
    if connection.execute(text("select to_regclass('alembic_version')")).scalar_one() is None:
        return None
    found: str = connection.execute(text("select version_num from alembic_version")).scalar_one()
    return found


def revisions() -> list[str]:
    """The revisions that this release knows, newest first."""
    return [script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()]


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config


def _prepare_pgvector(connection: Connection) -> None:
    try:
        connection.execute(text("create extension if not exists vector"))
    except (NotSupportedError, ProgrammingError) as error:  # it isn't installed, or the role may not
        reason = str(error.orig).partition("\n")[0]
        raise UnusableDatabase(
            f"the database has no pgvector ({reason}): install pgvector >= {'.'.join(map(str, MIN_PGVECTOR))} on its"
            " server, or have a superuser run CREATE EXTENSION vector in it"
        ) from error
    version = connection.execute(text("select extversion from pg_extension where extname = 'vector'")).scalar_one()
    if tuple(map(int, version.split("."))) < MIN_PGVECTOR:
        raise UnusableDatabase(
            f"pgvector {version}: at least {'.'.join(map(str, MIN_PGVECTOR))} is needed"
            " (install it, then run ALTER EXTENSION vector UPDATE)"
        )
    try:
        connection.execute(text("select '[1,2]'::vector <=> '[2,1]'::vector, '[1,2]'::halfvec <=> '[2,1]'::halfvec"))
    except OperationalError as error:
        raise UnusableDatabase(
            "the database server dies when it computes a vector distance: its pgvector is compiled for a newer CPU"
            " (the embedded one needs AVX2); set SIMCLR_DATABASE_URL to another PostgreSQL"
        ) from error
