"""A service to back up, and places to restore it to."""

from collections.abc import Callable, Iterator
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
from tests.service.backup.full_service import fill, index_vectors


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
def full(create_database: Callable[[], str], tmp_path: Path) -> Iterator[Full]:
    """A service with something of everything, alone on its database."""
    url = create_database()
    migrate(url)
    database, storage = Database(url), LocalStorage(tmp_path / "storage")
    blobs = fill(database, storage)
    index_vectors(database)
    yield Full(url, database, storage, blobs, tmp_path / "backup")
    database.close()
