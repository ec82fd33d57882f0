"""`simclr up`: the whole service on this machine, as children of one process in the foreground.

    PostgreSQL -> migrations -> Valkey -> worker -> API        stopped the other way round

A server that the settings name is used instead of the embedded one. Each child dies with this process, even when it
is killed (service/core/child.py); its log is DATA_DIR/logs/<name>.log.
"""

import shlex
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import NoReturn
from urllib.parse import urlsplit

import httpx
import structlog
import typer
from sqlalchemy.exc import OperationalError

from service.core.db import Database
from service.core.keys import has_live_key
from service.core.schema import migrate
from service.core.settings import Settings, child_environment
from service.embedded.postgres import EmbeddedPostgres
from service.embedded.valkey import EmbeddedValkey
from service.instance import check_port, only_instance
from service.process import ChildProcess, StartFailed
from service.supervisor import Supervisor

WORKER_COMMAND = [sys.executable, "-P", "-m", "trainer.worker"]
CHECK_SECONDS = 0.2
SLOW_START_SECONDS = 60

log = structlog.get_logger("simclr.up")


class Stopped(BaseException):  # not an Exception: nothing on the way out may take it for a failure
    """Ctrl-C or SIGTERM has come."""


def up(settings: Settings, *, host: str, port: int, with_keys: bool = False) -> None:
    """Run the stack until Ctrl-C or SIGTERM. Raises StartFailed when it can't start, or when a part keeps ending."""
    check_port(host, port)
    data_dir = settings.data_dir.absolute()
    supervisor = Supervisor()
    with only_instance(data_dir), _stop_signals():
        try:
            database_url = _start(supervisor, settings, data_dir, host=host, port=port, with_keys=with_keys)
            if with_keys:
                _tell_of_keys(database_url, data_dir)
            _announce_when_ready(supervisor, data_dir, _url(host, port))
            while True:
                time.sleep(CHECK_SECONDS)
                supervisor.check()
        except Stopped:
            log.info("stopping")
        finally:
            supervisor.stop()


@contextmanager
def _stop_signals() -> Iterator[None]:
    """Ctrl-C and SIGTERM raise Stopped, once: while the parts stop, more of them change nothing."""
    signals = (signal.SIGINT, signal.SIGTERM)

    def stop(_signal: int, _frame: FrameType | None) -> NoReturn:
        for number in signals:
            signal.signal(number, signal.SIG_IGN)
        raise Stopped

    previous = [signal.signal(number, stop) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, previous, strict=True):
            signal.signal(number, handler)


def _start(supervisor: Supervisor, settings: Settings, data_dir: Path, *, host: str, port: int, with_keys: bool) -> str:
    """Start the parts; the database's URL."""
    logs = data_dir / "logs"
    database_url = settings.database_url
    if not database_url:
        postgres = EmbeddedPostgres(data_dir / "postgres", logs / "postgres.log")
        supervisor.start(postgres.process, postgres.start)
        database_url = postgres.url
    _migrate(database_url)
    redis_url = settings.redis_url
    if not redis_url:
        valkey = EmbeddedValkey(data_dir / "valkey", logs / "valkey.log")
        supervisor.start(valkey.process, valkey.start)
        redis_url = valkey.url
    auth = "on" if with_keys else "off"
    environment = child_environment(database_url=database_url, redis_url=redis_url, data_dir=str(data_dir), auth=auth)
    environment = {"MPLCONFIGDIR": str(data_dir / "matplotlib"), **environment}  # its list of fonts, not in the home
    for name, command in (("worker", WORKER_COMMAND), ("API", _api_command(host, port))):
        process = program(name, logs)
        supervisor.start(process, partial(process.start, command, environment=environment))
    return database_url


def _api_command(host: str, port: int) -> list[str]:
    options = ["--host", host, "--port", str(port), "--allow-unauthenticated-network"]  # the caller has checked it
    return [sys.executable, "-P", "-m", "service.cli", "api", *options]


def program(name: str, logs: Path) -> ChildProcess:
    """A part of ours, the worker or the API, that isn't started yet."""
    return ChildProcess(
        name,
        logs / f"{name.lower()}.log",
        stop_signal=signal.SIGTERM,  # the API finishes its requests, the worker checkpoints
        on_parent_death=signal.SIGKILL,
        stop_timeout_seconds=30,
    )


def _migrate(database_url: str) -> None:
    try:
        migrate(database_url)
    except OperationalError as error:
        server = urlsplit(database_url).hostname or "the embedded server"
        raise StartFailed(f"the database on {server} doesn't answer: {error.orig}") from error


def _announce_when_ready(supervisor: Supervisor, data_dir: Path, url: str) -> None:
    """Print the one line that says where the service is, as soon as it is."""
    slow_at = time.monotonic() + SLOW_START_SECONDS
    with httpx.Client(base_url=url, timeout=2, trust_env=False) as client:
        while (state := _readiness(client)) != "":
            supervisor.check()
            if time.monotonic() > slow_at:
                log.warning("not ready yet", readyz=state, logs=str(data_dir / "logs"))
                slow_at += SLOW_START_SECONDS
            time.sleep(CHECK_SECONDS)
    typer.echo(f"simclr is ready at {url} (data and logs in {data_dir})")


def _tell_of_keys(database_url: str, data_dir: Path) -> None:
    """Say how to make a key where there is none yet."""
    with closing(Database(database_url)) as database, database.transaction() as session:
        if not has_live_key(session):
            command = f"simclr keys create --name first --scopes admin --data-dir {shlex.quote(str(data_dir))}"
            typer.echo(f"requests need an API key, and there is none yet; make one on this machine:\n  {command}")


def _readiness(client: httpx.Client) -> str:
    """What /readyz says is missing; empty when nothing is."""
    try:
        response = client.get("/readyz")
    except httpx.TransportError as error:
        return str(error)
    return "" if response.status_code == httpx.codes.OK else response.text


def _url(host: str, port: int) -> str:
    """An address of the API that this machine can open."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # the opposite: what stands for all
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"
