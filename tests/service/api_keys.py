"""Keys for the tests of the API."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from service.core.db import Database
from service.core.keys import create_key


def issue(database: Database, tenant: str, *scopes: str, **fields: Any) -> str:
    """The secret of a new key."""
    with database.of(tenant).transaction() as session:
        return create_key(session, tenant=tenant, name=f"{tenant}'s", scopes=scopes, **fields).secret


@contextmanager
def client_of(url: str, secret: str) -> Iterator[httpx.Client]:
    """A client whose requests carry the key."""
    headers = {"Authorization": f"Bearer {secret}"}
    with httpx.Client(base_url=url, headers=headers, timeout=30) as client:
        yield client
