"""A command's connection to the service, and what becomes of its failures."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import httpx
import typer

from service.client import ApiError, Client, JobFailed
from service.commands import output

LOCAL = "http://127.0.0.1:8000"
Url = Annotated[str, typer.Option("--url", envvar="SIMCLR_URL", help="Address of the service.")]


@contextmanager
def connected(url: str) -> Iterator[Client]:
    """A client whose failures end the command with one clear line."""
    try:
        with Client(url) as client:
            yield client
    except (ApiError, JobFailed, ValueError) as error:
        output.console.print(f"[red]{error}[/red]")
        raise typer.Exit(1) from error
    except (httpx.TransportError, httpx.InvalidURL) as error:
        output.console.print(
            f"[red]no service answers at {url} ({error}): start one with `simclr up`, or name it with --url[/red]"
        )
        raise typer.Exit(1) from error
