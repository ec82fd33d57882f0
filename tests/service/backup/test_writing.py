"""A backup is of one moment, whatever goes on meanwhile."""

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from service.backup import writing
from service.backup.errors import NotWritten
from service.backup.folder import BackupFolder
from service.backup.manifest import read_manifest
from service.backup.writing import back_up
from service.core.schema import revisions
from service.core.storage import LocalStorage
from tests.service.backup.conftest import Full, silent


class Storage(LocalStorage):
    """A storage in which something happens when a blob is read."""

    def __init__(self, root: Path, on_fetch: Callable[[str], None]) -> None:
        super().__init__(root)
        self.on_fetch = on_fetch

    def fetch(self, key: str, target: Path) -> Path:
        self.on_fetch(key)
        return super().fetch(key, target)


def once(key: str, do: Callable[[], None]) -> Callable[[str], None]:
    """Do something at the first look at a key."""
    done: set[str] = set()

    def on_fetch(fetched: str) -> None:
        if fetched == key and key not in done:
            done.add(key)
            do()

    return on_fetch


def run(full: Full, statement: str) -> None:
    with psycopg.connect(full.url) as connection:
        connection.execute(statement.encode())


def add_image(full: Full) -> None:
    """One whose content no other blob has: `images/new`."""
    full.storage.put("images/new", b"new")
    run(full, "insert into image (tenant, id, key, format, width, height, num_bytes)"
              " values ('default', encode(sha256('new'), 'hex'), 'images/new', 'png', 1, 1, 3)")  # fmt: skip


def test_every_blob_that_rows_name_is_there_under_its_sha256(full: Full) -> None:
    """Also those that rows name by their ids, logs, and the image that two tenants have, once."""
    manifest = full.back_up()
    assert manifest.blobs.keys() == full.blobs.keys()
    blobs = BackupFolder(full.target).blobs
    assert {key: blobs.path(blob.sha256).read_bytes() for key, blob in manifest.blobs.items()} == full.blobs
    assert manifest.lost == {}
    assert manifest == read_manifest(full.target / "snapshots" / manifest.made_at)


def test_a_second_backup_copies_what_is_new(full: Full) -> None:
    """Blobs are immutable and content-addressed: the second reads none of the first's but the logs."""
    first = full.back_up()
    add_image(full)
    read: list[str] = []
    second = full.back_up(Storage(full.storage.root, read.append))
    assert read == ["images/new", *(key for key in full.blobs if "/log-" in key)]
    assert second.blobs.keys() - first.blobs.keys() == {"images/new"}
    assert BackupFolder(full.target).names() == [first.made_at, second.made_at]


def test_an_image_deleted_while_it_is_copied_is_in_no_row_of_the_backup(full: Full) -> None:
    """As if the backup had begun a moment later; its blob isn't missed."""

    def delete_image() -> None:
        run(full, "delete from image where key = 'images/new'")
        full.storage.delete("images/new")
        deleted.append("images/new")

    add_image(full)
    deleted: list[str] = []
    manifest = full.back_up(Storage(full.storage.root, once("images/new", delete_image)))
    assert deleted == ["images/new"]
    assert manifest.blobs.keys() == full.blobs.keys()
    assert manifest.lost == {}
    assert {table.name: table.num_rows for table in manifest.tables}["image"] == 2


def test_a_deletion_after_the_look_at_the_rows_has_another_look_taken(
    full: Full, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came since the first pass, a checkpoint, is deleted under the transaction that has seen its row."""
    looks: list[int] = []
    named_blobs = writing.named_blobs

    def replace_checkpoint() -> None:
        run(full, "update checkpoint set key = 'jobs/newer', sha256 = encode(sha256('newer'), 'hex')")
        full.storage.put("jobs/newer", b"newer")
        full.storage.delete("jobs/new")

    def look(session: Session) -> dict[str, str]:
        looks.append(1)
        if len(looks) == 2:  # the first of a transaction that writes
            run(full, "update checkpoint set key = 'jobs/new', sha256 = encode(sha256('new'), 'hex')")
            full.storage.put("jobs/new", b"new")
        return named_blobs(session)

    monkeypatch.setattr(writing, "named_blobs", look)
    manifest = full.back_up(Storage(full.storage.root, once("jobs/new", replace_checkpoint)))
    assert len(looks) == 3
    assert "jobs/newer" in manifest.blobs
    assert "jobs/new" not in manifest.blobs
    assert manifest.lost == {}


def test_a_model_deleted_after_the_look_at_the_rows_has_another_look_taken(
    full: Full, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its table of vectors is gone at once, also for a transaction that still sees its row."""
    looks: list[int] = []
    named_blobs = writing.named_blobs

    def look(session: Session) -> dict[str, str]:
        looks.append(1)
        if len(looks) == 2:  # the first of a transaction that writes
            session.execute(text("select count(*) from node"))
            run(full, "delete from alias")
            run(full, "delete from model")  # and of its vectors, by cascade
            run(full, "drop table emb_1")
            full.storage.delete("models/mdl_1")
        return named_blobs(session)

    monkeypatch.setattr(writing, "named_blobs", look)
    manifest = full.back_up()
    assert len(looks) == 3
    assert "emb_1" not in {table.name for table in manifest.tables}
    assert "models/mdl_1/model.onnx" not in manifest.blobs


def test_deletions_that_never_end_are_told(full: Full, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rather than a backup that lacks something, none."""
    names = iter(range(100))
    monkeypatch.setattr(writing, "named_blobs", lambda session: {f"jobs/{next(names)}": "0"})
    with pytest.raises(NotWritten, match="20 times in a row: try again"):
        full.back_up()
    assert BackupFolder(full.target).names() == []


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "is not in the storage"), (b"flip", "is damaged in the storage")]
)
def test_what_the_storage_has_lost_is_named(full: Full, content: bytes | None, reason: str) -> None:
    """The rows still name it: it wasn't deleted. All else is in the backup."""
    full.storage.delete("models/mdl_1/model.onnx")
    if content is not None:
        full.storage.put("models/mdl_1/model.onnx", content)
    manifest = full.back_up()
    assert manifest.lost == {"models/mdl_1/model.onnx": reason}
    assert manifest.blobs.keys() == full.blobs.keys() - manifest.lost.keys()


def test_two_at_once_are_refused(full: Full) -> None:
    """The second is told of the first."""
    with BackupFolder(full.target).held(), pytest.raises(NotWritten, match="another backup is being written into"):
        full.back_up()


def test_a_database_of_another_release_is_refused(full: Full, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its tables aren't those that this code knows."""
    monkeypatch.setattr(writing, "revisions", lambda: ["9999", *revisions()])
    with pytest.raises(NotWritten, match=r"tables are at \d+, this release's at 9999: run `simclr migrate`"):
        full.back_up()


def test_what_a_killed_backup_left_is_swept(full: Full) -> None:
    """Half of a snapshot has no name, and is gone after the next one."""
    leftovers = [full.target / "snapshots" / ".partial-x", full.target / "blobs" / ".partial" / "y"]
    for folder in leftovers:
        folder.mkdir(parents=True)
    full.back_up()
    assert not any(folder.exists() for folder in leftovers)


def test_older_ones_are_deleted_with_what_only_they_have(full: Full) -> None:
    """The newest is kept whole."""
    full.back_up()
    run(full, "delete from image")
    newest = full.back_up()
    backup = BackupFolder(full.target)
    assert backup.keep_newest(1) == 1
    assert backup.names() == [newest.made_at]
    kept = {path.name for path in backup.blobs.folder.glob("[0-9a-f][0-9a-f]/*")}
    assert kept == {blob.sha256 for blob in newest.blobs.values()}


@pytest.mark.parametrize("is_folder", [True, False])
def test_a_backup_is_not_written_among_other_files(full: Full, is_folder: bool) -> None:  # noqa: FBT001  # a parameter
    """Nor in place of one; a backup's own folder takes the next one."""
    if is_folder:
        full.target.mkdir()
    other = full.target / "holiday.jpg" if is_folder else full.target
    other.write_bytes(b"x")
    with pytest.raises(NotWritten, match="is no backup: name a new or empty folder"):
        full.back_up()
    assert other.read_bytes() == b"x"
    assert [*full.target.glob("*")] == ([other] if is_folder else [])


def test_a_backup_may_be_a_disk(full: Full) -> None:
    """Whose root has a folder of the file system's; not a service's data folder, which has a lock as a backup has."""
    (full.target / "lost+found").mkdir(parents=True)
    assert full.back_up().lost == {}
    data = full.target.with_name("data")
    (data / "postgres").mkdir(parents=True)
    (data / "lock").touch()
    with pytest.raises(NotWritten, match="is no backup"):
        back_up(full.url, full.storage, data, silent())
