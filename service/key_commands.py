"""`simclr keys`: keys made on the machine that has the database, where no key is needed yet.

It works on the database of the settings, or on that of the `simclr up` which runs on the data folder.
"""

import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.exc import ProgrammingError

from service.commands.output import ID_WIDTH, Column, show_list
from service.core.db import AWAY, Database
from service.core.errors import ServiceError
from service.core.keys import SCOPES, create_key, revoke_key
from service.core.quotas import NO_LIMITS, Limits
from service.core.settings import get_settings
from service.core.tables import DEFAULT_TENANT, ApiKey
from service.instance import reachable_database
from service.process import StartFailed

UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1)}

keys = typer.Typer(help="API keys, on the machine that has the database.", no_args_is_help=True)

DataDir = Annotated[Path | None, typer.Option(help="Folder of the `simclr up` that runs.", show_default="simclr-data")]


@keys.command("create")
def create(
    name: Annotated[str, typer.Option(help="To tell it apart.")],
    scopes: Annotated[str, typer.Option(help=f"Some of {', '.join(SCOPES)}, with commas; admin includes all.")],
    tenant: Annotated[str, typer.Option(help="Whose; a new name is a new tenant.")] = DEFAULT_TENANT,
    expires: Annotated[
        str | None, typer.Option(help="After how long, such as 90d or 12h.", show_default="never")
    ] = None,
    limits: Annotated[str | None, typer.Option(help='JSON, such as {"images": 10000, "jobs": 5}.')] = None,
    data_dir: DataDir = None,
) -> None:
    """Make a key and print its secret, which nobody can see again."""
    with _connected(data_dir) as database, database.transaction() as session:
        made = create_key(
            session,
            tenant=tenant,
            name=name,
            scopes=[scope.strip() for scope in scopes.split(",")],
            limits=Limits.model_validate_json(limits) if limits else NO_LIMITS,
            expires_at=_instant(expires) if expires else None,
        )
    typer.echo(made.secret)
    typer.echo(f"{made.row.id} of the tenant {tenant}; the secret above is not kept: store it now", err=True)


@keys.command("list")
def list_keys(
    tenant: Annotated[str | None, typer.Option(help="Only its keys.")] = None, data_dir: DataDir = None
) -> None:
    """List the keys of all tenants, newest first."""
    with _connected(data_dir) as database, database.transaction() as session:
        statement = select(ApiKey).order_by(ApiKey.id.desc())
        found = session.scalars(statement.where(ApiKey.tenant == tenant) if tenant else statement).all()
    columns = [
        Column("id", "id", ID_WIDTH),
        *(Column(title, title) for title in ("tenant", "name", "prefix", "scopes")),
    ]
    instants = [Column(title, title) for title in ("expires", "revoked", "last used")]
    show_list((_row(key) for key in found), [*columns, *instants], len(found))


def _row(key: ApiKey) -> dict[str, str]:
    instants = {"expires": key.expires_at, "revoked": key.revoked_at, "last used": key.last_used_at}
    about = {
        "id": key.id,
        "tenant": key.tenant,
        "name": key.name,
        "prefix": key.prefix,
        "scopes": ", ".join(key.scopes),
    }
    return about | {title: f"{instant:%Y-%m-%d %H:%M}" for title, instant in instants.items() if instant}


@keys.command("revoke")
def revoke(key_id: str, data_dir: DataDir = None) -> None:
    """Have a key be refused: by every process of the API within 10 seconds."""
    with _connected(data_dir) as database, database.transaction() as session:
        revoke_key(session, key_id)
    typer.echo(f"{key_id} is revoked")


@contextmanager
def _connected(data_dir: Path | None) -> Iterator[Database]:
    """The database; what goes wrong ends the command with one line."""
    try:
        with closing(Database(reachable_database(get_settings(), data_dir))) as database:
            yield database
    except AWAY as error:
        _fail(f"the database doesn't answer: {error}")
    except ProgrammingError:
        _fail("the database lacks this release's tables: run `simclr migrate`")
    except ServiceError as error:
        _fail(error.detail)
    except ValidationError as error:
        first = error.errors()[0]
        _fail(f"--limits: {'.'.join(map(str, first['loc']))}: {first['msg']}")
    except (StartFailed, ValueError) as error:
        _fail(str(error))


def _instant(duration: str) -> datetime:
    """Now and a duration such as 90d. Raises ValueError."""
    parts = re.fullmatch(r"([1-9][0-9]{0,4})([hd])", duration)
    if parts is None:
        raise ValueError(f"--expires: a number of days or hours such as 90d or 12h, not {duration!r}")
    return datetime.now(UTC) + int(parts[1]) * UNITS[parts[2]]


def _fail(message: str) -> NoReturn:
    typer.echo(f"simclr: {message}", err=True)
    raise typer.Exit(1)
