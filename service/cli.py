"""The command `simclr`."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer
import uvicorn
from pydantic import ValidationError

from service.commands import datasets, images, jobs, models
from service.commands.backup import backup, restore
from service.commands.doctor import doctor
from service.commands.embed import embed
from service.commands.nodes import nodes
from service.commands.search import classify, search
from service.commands.train import train
from service.core import tracing
from service.core.bucket import UnusableStorage, create_bucket
from service.core.log import configure_logging
from service.core.schema import UnusableDatabase, migrate
from service.core.settings import Settings, get_settings
from service.core.tracing import TracingUnavailable
from service.demo import demo
from service.experiments import experiments
from service.instance import needs_keys
from service.key_commands import keys
from service.process import StartFailed
from service.up import WORKER_COMMAND
from service.up import up as run_stack

LIMIT_CONCURRENCY = 512  # connections; more are answered 503 at once (behind a proxy it is the proxy's business)
GRACEFUL_SHUTDOWN_SECONDS = 10  # requests under way may finish

app = typer.Typer(
    help="Self-supervised image representations: pretrain, probe, embed and search.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Host = Annotated[str, typer.Option(help="Address to listen on.")]
Port = Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")]
AllowNetwork = Annotated[
    bool,
    typer.Option("--allow-unauthenticated-network", help="Let SIMCLR_AUTH=off be where other machines reach it."),
]


@contextmanager
def _failures_in_one_line() -> Iterator[None]:
    """What the user can mend ends the command with status 1 and a message, without a traceback."""
    try:
        yield
    except (StartFailed, UnusableDatabase, UnusableStorage, TracingUnavailable) as error:
        _fail(str(error))
    except ValidationError as error:
        _fail(
            "; ".join(
                f"SIMCLR_{str(e['loc'][0]).upper()}: {e['msg']}" if e["loc"] else e["msg"] for e in error.errors()
            )
        )


def _fail(message: str) -> NoReturn:
    typer.echo(f"simclr: {message}", err=True)
    raise typer.Exit(1)


def _settings_naming(*names: str) -> Settings:
    """The settings of a command that is one part of the stack. Raises StartFailed when a server isn't named."""
    settings = get_settings()
    for name in names:
        if not getattr(settings, name):
            raise StartFailed(f"set SIMCLR_{name.upper()}, or run the whole stack with `simclr up`")
    return settings


@app.command()
def up(
    data_dir: Annotated[Path | None, typer.Option(help="Where everything is kept.", show_default="simclr-data")] = None,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    *,
    allow_network: AllowNetwork = False,
) -> None:
    """Run the whole service on this machine until Ctrl-C."""
    configure_logging()
    with _failures_in_one_line():
        tracing.check()
        settings = get_settings()
        if data_dir is not None:
            settings = settings.model_copy(update={"data_dir": data_dir})
        with_keys = needs_keys(host, settings.auth, allow_network=allow_network)
        run_stack(settings, host=host, port=port, with_keys=with_keys)


@app.command()
def api(host: Host = "127.0.0.1", port: Port = 8000, *, allow_network: AllowNetwork = False) -> None:
    """Run the API alone, on the servers that the settings name."""
    with _failures_in_one_line():
        settings = _settings_naming("database_url", "redis_url")
        with_keys = needs_keys(host, settings.auth, allow_network=allow_network)
        tracing.start("api")
    configure_logging()
    from service.app import create_app  # noqa: PLC0415  # takes a second, which the other commands needn't wait for
    from service.shedding import Shedding  # noqa: PLC0415

    config = uvicorn.Config(
        partial(create_app, settings.model_copy(update={"auth": "on" if with_keys else "off"})),
        factory=True,
        host=host,
        port=port,
        http=Shedding,
        log_config=None,  # the records go where configure_logging sends them
        access_log=False,
        limit_concurrency=LIMIT_CONCURRENCY,
        timeout_graceful_shutdown=GRACEFUL_SHUTDOWN_SECONDS,
    )
    server = Server(config)
    server.run()
    if not server.started:
        raise typer.Exit(1)


class Server(uvicorn.Server):
    """Ends the event streams when it is told to stop; their clients come back to where they were."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        from service.event_stream import stopping  # noqa: PLC0415  # FastAPI takes a second, as above

        stopping.set()
        super().handle_exit(sig, frame)


@app.command()
def worker() -> None:
    """Run a worker, which trains and indexes, on the servers that the settings name."""
    with _failures_in_one_line():
        _settings_naming("database_url", "redis_url")
        tracing.check()
    # The service never imports the trainer: this process becomes it.
    os.execv(WORKER_COMMAND[0], WORKER_COMMAND)  # noqa: S606  # no shell wanted


@app.command("migrate")
def migrate_database() -> None:
    """Bring the database's tables to this release's; `simclr up` does so by itself."""
    with _failures_in_one_line():
        migrate(_settings_naming("database_url").database_url)


@app.command("create-bucket")
def make_bucket() -> None:
    """Create the bucket that SIMCLR_STORAGE_URL names, where the object storage has none yet."""
    with _failures_in_one_line():
        create_bucket(_settings_naming("storage_url"))


app.add_typer(keys, name="keys")
app.command()(demo)
app.command()(experiments)
for name, part in (("datasets", datasets), ("jobs", jobs), ("models", models), ("images", images)):
    app.add_typer(part.app, name=name)
for command in (train, embed, search, classify, nodes, doctor, backup, restore):
    app.command()(command)

if __name__ == "__main__":
    app()
