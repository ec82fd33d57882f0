"""A service to back up, and places to restore it to."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console

from service.backup.manifest import Manifest
from service.backup.writing import back_up
from service.core.db import Database
from service.core.schema import migrate
from service.core.storage import LocalStorage, Storage
from service.stages import Stages, progress_on
from tests.service.backup.full_service import fill


@dataclass
class Full:
    """A service's database and storage, what blobs it has, and where its backups go."""

    url: str
    database: Database
    storage: LocalStorage
    blobs: dict[str, bytes]
    target: Path

    def back_up(self, storage: Storage | None = None) -> Manifest:
        return back_up(self.url, storage or self.storage, self.target, silent())


def silent() -> Stages:
    """Stages that show nothing."""
    return Stages(progress_on(Console(quiet=True)))


@pytest.fixture
def full(postgres_url: str, database: Database, tmp_path: Path) -> Full:
    """A service with something of everything."""
    storage = LocalStorage(tmp_path / "storage")
    return Full(postgres_url, database, storage, fill(database, storage), tmp_path / "backup")


@pytest.fixture(scope="module")
def other_url(create_database: Callable[[], str]) -> str:
    """A database to restore to, which may have rows of an earlier test."""
    url = create_database()
    migrate(url)
    return url
