"""A command's connection to the service."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from service.client import Client
from service.commands.failures import failures_told
from service.core.settings import ClientSettings

LOCAL = "http://127.0.0.1:8000"
Url = Annotated[str, typer.Option("--url", envvar="SIMCLR_URL", help="Address of the service.")]


@contextmanager
def connected(url: str) -> Iterator[Client]:
    """A client whose failures end the command with one clear line."""
    with failures_told(url), Client(url, api_key=ClientSettings().api_key) as client:
        yield client
