"""Whether the parts that the API depends on work: each is asked, with a short patience."""

import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import redis
from sqlalchemy import select, text
from sqlalchemy.exc import NoResultFound, ProgrammingError

from service.core.db import AWAY, Database
from service.core.errors import ServiceError
from service.core.storage import Storage
from service.core.tables import Alias
from service.production import PRODUCTION

REDIS_TIMEOUT_SECONDS = 1
STORAGE_TIMEOUT_SECONDS = 3


@dataclass(frozen=True)
class Part:
    """A part, and what it says of itself."""

    is_usable: bool
    about: dict[str, Any] = field(default_factory=dict)


def database_part(database: Database) -> Part:
    """Versions of PostgreSQL and pgvector, and the model that serves those whose database it is."""
    statement = text("select current_setting('server_version'), extversion from pg_extension where extname = 'vector'")
    try:
        with database.transaction() as session:
            postgresql, pgvector = session.execute(statement).one()
            production_model = session.scalar(select(Alias.model_id).where(Alias.name == PRODUCTION))
    except AWAY as error:
        return Part(is_usable=False, about={"error": _first_line(error)})
    except (ProgrammingError, NoResultFound):  # a table or pgvector itself is missing
        message = "the database lacks pgvector or this release's tables; run `simclr migrate`"
        return Part(is_usable=False, about={"error": message})
    return Part(
        is_usable=True,
        about={"postgresql": postgresql, "pgvector": pgvector, "production_model": production_model},
    )


def storage_part(storage: Storage) -> Part:
    """Whether a blob can be written."""
    written: Future[None] = Future()

    def write() -> None:
        try:
            storage.put("health", b"")
            written.set_result(None)
        except (ServiceError, OSError) as error:
            written.set_exception(error)

    threading.Thread(target=write, daemon=True).start()  # a network drive may hang for ever
    try:
        written.result(STORAGE_TIMEOUT_SECONDS)
    except TimeoutError:
        return Part(is_usable=False, about={"error": f"no answer within {STORAGE_TIMEOUT_SECONDS} s"})
    except (ServiceError, OSError) as error:
        return Part(is_usable=False, about={"error": _first_line(error.__cause__ or error)})
    return Part(is_usable=True)


def redis_part(redis_url: str) -> Part:
    """Its version. Without it jobs are accepted, but none starts until it is back."""
    timeouts: dict[str, Any] = {
        "socket_connect_timeout": REDIS_TIMEOUT_SECONDS,
        "socket_timeout": REDIS_TIMEOUT_SECONDS,
    }
    try:
        with redis.Redis.from_url(redis_url, **timeouts) as client:
            version = client.info("server")["redis_version"]
    except redis.RedisError as error:
        return Part(is_usable=False, about={"error": _first_line(error)})
    return Part(is_usable=True, about={"redis": version})


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]
