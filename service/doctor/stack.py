"""What `simclr up` starts: settings, port, PostgreSQL with pgvector, Valkey."""

import tempfile
from importlib.metadata import version
from pathlib import Path

import psycopg
from pydantic import ValidationError

from service.core.settings import Settings
from service.doctor.finding import Finding, failed, ok
from service.embedded.postgres import EmbeddedPostgres
from service.embedded.valkey import EmbeddedValkey
from service.instance import check_port
from service.process import StartFailed

PACKAGES = ("simclr-service", "numpy", "onnxruntime", "fastapi", "celery")


def check_versions() -> Finding:
    """Of what serves; missing packages don't get as far as this."""
    return ok("versions", ", ".join(f"{package} {version(package)}" for package in PACKAGES))


def check_settings() -> tuple[Finding, Settings | None]:
    """Environment variables and the file .env; the settings where they are valid."""
    try:
        settings = Settings()
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}".lstrip(": ") for e in error.errors())
        return failed("settings", wrong, ".env.example lists all of them with their defaults"), None
    return ok("settings", "SIMCLR_* and .env are valid"), settings


def check_free_port(port: int) -> Finding:
    """Of the API."""
    name = f"port {port}"
    try:
        check_port("127.0.0.1", port)
    except StartFailed:
        advice = "stop what listens there (perhaps a `simclr up`), or give another --port"
        return failed(name, "in use", advice)
    return ok(name, "free")


def check_postgres() -> Finding:
    """Starts a server in a temporary folder, and pgvector in it."""
    name = "embedded PostgreSQL"
    with tempfile.TemporaryDirectory(prefix="simclr-doctor-") as folder:
        try:
            server = EmbeddedPostgres(Path(folder) / "postgres", Path(folder) / "postgres.log")
            url = server.start()
        except (StartFailed, OSError) as error:
            return failed(name, str(error), "or set SIMCLR_DATABASE_URL to a PostgreSQL with pgvector of your own")
        try:
            return ok(name, _ask_postgres(url))
        except psycopg.Error as error:
            return failed(name, f"pgvector fails: {error}", "set SIMCLR_DATABASE_URL to a PostgreSQL of your own")
        finally:
            server.stop()


def _ask_postgres(url: str) -> str:
    """Versions, once a distance was computed: that runs the compiled code that old processors can't."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("create extension vector")
        connection.execute("select '[1,2,3]'::vector <-> '[3,2,1]'::vector")
        query = "select current_setting('server_version'), extversion from pg_extension where extname = 'vector'"
        [(postgresql, pgvector)] = connection.execute(query).fetchall()
    return f"{postgresql} starts, with pgvector {pgvector}"


def check_valkey() -> Finding:
    """Starts a server in a temporary folder."""
    name = "embedded Valkey"
    with tempfile.TemporaryDirectory(prefix="simclr-doctor-") as folder:
        try:
            server = EmbeddedValkey(Path(folder) / "valkey", Path(folder) / "valkey.log")
            server.start()
        except (StartFailed, OSError) as error:
            return failed(name, str(error), "or set SIMCLR_REDIS_URL to a Redis or Valkey of your own")
        server.stop()
    return ok(name, "starts")
