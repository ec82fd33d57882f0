"""`simclr backup` and `simclr restore`: on the machine that has the database and the storage, or their settings."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.filesize import decimal
from sqlalchemy import NullPool, create_engine

from service.backup.errors import BackupError
from service.backup.folder import BackupFolder
from service.backup.manifest import Manifest
from service.backup.restoring import check_target, put_blobs, restore_rows
from service.backup.verifying import read_verified
from service.backup.writing import back_up
from service.core.db import AWAY, sqlalchemy_url
from service.core.errors import ServiceError
from service.core.schema import UnusableDatabase
from service.core.settings import Settings, get_settings
from service.core.storage import Storage, open_storage
from service.embedded.postgres import EmbeddedPostgres
from service.instance import only_instance, reachable_database
from service.process import StartFailed
from service.stages import Stages, progress_on

MAX_SHOWN = 20
console = Console(width=None if sys.stdout.isatty() else 160)

DataDir = Annotated[Path | None, typer.Option(help="Folder of the embedded service.", show_default="simclr-data")]


def backup(
    to: Annotated[Path, typer.Argument(metavar="TO", help="A folder, the same each time: it grows by what is new.")],
    keep: Annotated[int | None, typer.Option(min=1, help="Keep so many backups in it.", show_default="all")] = None,
    data_dir: DataDir = None,
) -> None:
    """Write all of the service, rows and blobs, as it is at one moment; it goes on meanwhile.

    Example: simclr backup /backups/simclr --keep 7
    """
    with _failures_in_one_line(), progress_on(console) as progress:
        settings, storage = _settings(data_dir)
        url = reachable_database(settings, data_dir)
        manifest = back_up(url, storage, to, Stages(progress))
        console.print(f"{manifest.made_at}: {_content(manifest)}", highlight=False)
        if keep is not None:
            folder = BackupFolder(to)
            with folder.held():
                console.print(f"deleted {folder.keep_newest(keep)} older", highlight=False)
    _tell_of_lost(manifest)


def restore(
    source: Annotated[Path, typer.Argument(metavar="FROM", help="The folder that `simclr backup` wrote into.")],
    at: Annotated[str | None, typer.Option(help="Which of its snapshots.", show_default="the newest")] = None,
    *,
    replace: Annotated[bool, typer.Option("--replace", help="Delete all rows that the target has.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Verify the backup, and only say what would be.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Have an empty service be as it was at a backup. The API and the workers must not run.

    Example: simclr restore /backups/simclr --data-dir restored
    """
    with _failures_in_one_line(), progress_on(console) as progress:
        settings, storage = _settings(data_dir)
        folder, stages = BackupFolder(source), Stages(progress)
        snapshot = folder.find(at)
        with stages.stage("verify", "verify the backup") as update:
            manifest = read_verified(folder, snapshot, update)
        is_embedded = not settings.database_url or data_dir is not None
        target = f"the data folder {settings.data_dir}" if is_embedded else "the database of SIMCLR_DATABASE_URL"
        verb = "would restore" if dry_run else "restores"
        console.print(f"{verb} {snapshot.name}, {_content(manifest)}, into {target}", highlight=False)
        if dry_run:
            return
        with _database(settings, is_embedded=is_embedded) as url:
            _restore(url, storage, folder, snapshot, manifest, stages, replace=replace)
    console.print("restored; jobs that ran go on from their newest checkpoint once a worker is there")
    _tell_of_lost(manifest)


def _restore(
    url: str,
    storage: Storage,
    folder: BackupFolder,
    snapshot: Path,
    manifest: Manifest,
    stages: Stages,
    *,
    replace: bool,
) -> None:
    engine = create_engine(sqlalchemy_url(url), poolclass=NullPool)
    with engine.begin() as connection:
        check_target(connection, manifest, replace=replace)
    with stages.stage("blobs", "restore the blobs") as update:
        put_blobs(folder.blobs, storage, manifest.blobs, update)
    for key in restore_rows(engine, storage, snapshot, manifest, stages):
        storage.delete(key)


def _settings(data_dir: Path | None) -> tuple[Settings, Storage]:
    settings = get_settings()
    if data_dir is not None:
        settings = settings.model_copy(update={"data_dir": data_dir})
    return settings, open_storage(settings)


@contextmanager
def _database(settings: Settings, *, is_embedded: bool) -> Iterator[str]:
    """The database's URL; the embedded one runs for as long as the block, and nothing else on its folder."""
    if not is_embedded:
        yield settings.database_url
        return
    data_dir = settings.data_dir.absolute()
    with only_instance(data_dir):
        server = EmbeddedPostgres(data_dir / "postgres", data_dir / "logs" / "postgres.log")
        try:
            yield server.start()
        finally:
            server.stop()


def _content(manifest: Manifest) -> str:
    num_rows = sum(table.num_rows for table in manifest.tables)
    return f"{num_rows:,} rows and {len(manifest.blobs):,} blobs of {decimal(manifest.num_bytes)}"


def _tell_of_lost(manifest: Manifest) -> None:
    """What the storage itself had lost before: the rest is whole, and status 1 has somebody look."""
    if manifest.lost:
        for key, reason in list(manifest.lost.items())[:MAX_SHOWN]:
            typer.echo(f"simclr: {key} {reason}", err=True)
        _fail(f"{len(manifest.lost)} blobs that rows name were lost before this backup; all else is in it")


@contextmanager
def _failures_in_one_line() -> Iterator[None]:
    try:
        yield
    except (BackupError, StartFailed, UnusableDatabase) as error:
        _fail(str(error))
    except AWAY as error:
        _fail(f"the database doesn't answer: {error}")
    except ServiceError as error:
        _fail(error.detail)
    except ValidationError as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.filename or 'a file'}: {error.strerror}")


def _fail(message: str) -> NoReturn:
    typer.echo(f"simclr: {message}", err=True)
    raise typer.Exit(1)
