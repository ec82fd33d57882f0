"""Images are stored with their vectors, also while another model goes into production."""

import hashlib
import threading
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from sqlalchemy import select, text

from service import image_store, promotion
from service.core import jobs, model_files
from service.core.aliases import SWITCH_LOCK, lock_switches
from service.core.db import Database
from service.core.storage import LocalStorage
from service.core.tables import DEFAULT_TENANT, Alias, Image, Job, Model
from service.image_store import NewImage, store_images
from service.production import queue_index
from tests.service.conftest import publish_model
from tests.waiting import wait_until


@pytest.fixture
def models(database: Database, storage: LocalStorage) -> list[Model]:
    """Two models; none is in production."""
    with database.transaction() as session:
        return [publish_model(session, storage, {"model.onnx": bytes([i])}) for i in range(2)]


def store(database: Database, storage: LocalStorage, content: bytes, model: Model | None) -> None:
    """Store an image whose vector is that model's."""
    id_ = hashlib.sha256(content).hexdigest()
    vector = np.ones(8, np.float32) if model else None
    image = NewImage(id_, content, "png", 8, 8, filename=None, label=None, vector=vector)
    store_images(database, storage, [image], collection="default", metadata={}, model=model)


def index_jobs(database: Database) -> list[str | None]:
    """The model of each index job."""
    with database.transaction() as session:
        return list(session.scalars(select(Job.model_id).where(Job.kind == "index")))


def index_job_ids(database: Database) -> list[str]:
    with database.transaction() as session:
        return list(session.scalars(select(Job.id).where(Job.kind == "index")))


@pytest.mark.parametrize("had_model", [True, False])
def test_an_upload_that_missed_a_switch_has_its_images_indexed(
    database: Database, storage: LocalStorage, models: list[Model], *, had_model: bool
) -> None:
    """Images embedded with another model than the one in production, or with none, get one job for all of them."""
    old, new = models
    promotion.promote(database, "production", new.id)
    for content in (b"1", b"2"):
        store(database, storage, content, old if had_model else None)
    assert index_jobs(database) == [new.id]
    store(database, storage, b"3", new)
    assert index_jobs(database) == [new.id]


def test_a_job_that_has_begun_is_not_enough(database: Database, storage: LocalStorage, models: list[Model]) -> None:
    """The running job may have passed the image already: a second one is queued."""
    promotion.promote(database, "production", models[1].id)
    store(database, storage, b"1", models[0])
    with database.transaction() as session:
        jobs.start(session, session.scalars(select(Job)).one())
    store(database, storage, b"2", models[0])
    assert index_jobs(database) == [models[1].id] * 2


def test_a_queued_job_does_not_begin_before_the_upload_ends(database: Database, models: list[Model]) -> None:
    """Else it could be over before the images that rely on it can be seen."""
    with database.transaction() as session:
        queue_index(session, models[0].id)
    startable = select(Job.id).with_for_update(skip_locked=True)
    with database.transaction() as upload, database.transaction() as scheduler:
        queue_index(upload, models[0].id)
        assert scheduler.scalars(startable).all() == []
        upload.commit()
        assert scheduler.scalars(startable).all() == index_job_ids(database)


def test_an_upload_waits_for_the_switch_that_is_going_on(
    database: Database, storage: LocalStorage, models: list[Model]
) -> None:
    """Also the first promotion, which has no row to lock, ends before the upload looks what is in production."""
    upload = threading.Thread(target=store, args=(database, storage, b"1", None))
    waiting = text("select count(*) from pg_locks where not granted and locktype = 'advisory' and classid = :lock")
    with database.transaction() as session:
        lock_switches(session, DEFAULT_TENANT)
        upload.start()
        wait_until(lambda: session.execute(waiting, {"lock": SWITCH_LOCK}).scalar_one())
        assert session.scalars(select(Image)).all() == []
        session.add(Alias(name="production", model_id=models[0].id))
    upload.join()
    assert index_jobs(database) == [models[0].id]


def test_a_switch_waits_for_the_uploads_that_end(
    database: Database, storage: LocalStorage, models: list[Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A promotion that comes between an upload's look at production and its commit finds the image."""
    settled, may_commit = threading.Event(), threading.Event()
    look = image_store.settled_model_id

    def look_and_wait(session: object) -> str | None:
        found = look(session)  # type: ignore[arg-type]  # passed through
        settled.set()
        may_commit.wait(10)
        return found

    monkeypatch.setattr(image_store, "settled_model_id", look_and_wait)
    upload = threading.Thread(target=store, args=(database, storage, b"1", None))
    switch = threading.Thread(target=promotion.promote, args=(database, "production", models[0].id))
    waiting = text("select count(*) from pg_locks where not granted and locktype = 'advisory' and classid = :lock")
    upload.start()
    assert settled.wait(10)
    switch.start()
    with database.transaction() as session:
        wait_until(lambda: session.execute(waiting, {"lock": SWITCH_LOCK}).scalar_one())
    may_commit.set()
    upload.join()
    switch.join()
    assert index_jobs(database) == [models[0].id]


def test_files_are_checked_before_the_transaction(
    database: Database, storage: LocalStorage, models: list[Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No connection is in use while a model's files are hashed."""
    in_use: list[int] = []
    hash_file = model_files.sha256_of

    def noting(path: object) -> str:
        in_use.append(database.engine.pool.checkedout())  # type: ignore[attr-defined]  # of a QueuePool
        return hash_file(path)  # type: ignore[arg-type]  # passed through

    monkeypatch.setattr(model_files, "sha256_of", noting)
    promotion.verify(database, storage, models[0].id)
    assert in_use == [0]


def test_an_image_that_another_upload_stored_and_someone_deleted_meanwhile_is_stored(
    database: Database, storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The faster upload's row makes ours surplus, then goes: ours is made once more, and its blob is the only one."""
    store(database, storage, b"0", None)  # the collection is there
    blobs, moments = image_store._Blobs, iter(["stored by another", "deleted"])
    write, name = blobs.write, blobs.name

    def write_after_another(self: image_store._Blobs, images: Sequence[NewImage]) -> dict[str, str]:
        if next(moments, None) == "stored by another":
            with monkeypatch.context() as plain:
                plain.setattr(blobs, "write", write)
                plain.setattr(blobs, "name", name)
                store(database, storage, b"1", None)
        return write(self, images)

    def name_before_deletion(self: image_store._Blobs, keys: Iterable[str]) -> None:
        name(self, keys)
        if next(moments, None) == "deleted":
            image_store.delete_image(database, storage, hashlib.sha256(b"1").hexdigest())

    monkeypatch.setattr(blobs, "write", write_after_another)
    monkeypatch.setattr(blobs, "name", name_before_deletion)
    store(database, storage, b"1", None)
    with database.transaction() as session:
        keys = set(session.scalars(select(Image.key)))
    assert {storage.get(key) for key in keys} == {b"0", b"1"}
    files = [path for path in (storage.root / "images").rglob("*") if path.is_file()]
    assert {str(path.relative_to(storage.root)) for path in files} == keys


def test_an_index_that_could_not_be_built_is_tried_again_later(
    database: Database, storage: LocalStorage, models: list[Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not with every upload: after an hour; searches are exact until then."""
    promotion.promote(database, "production", models[0].id)
    monkeypatch.setattr("service.core.vectors.needs_index", lambda *_: True)
    store(database, storage, b"1", models[0])
    with database.transaction() as session:
        job = session.scalars(select(Job).where(Job.idempotency_key.like("build:%"))).one()
        jobs.fail(session, jobs.start(session, job), "crashed", "x")
    store(database, storage, b"2", models[0])
    with database.transaction() as session:
        assert session.get_one(Job, job.id).status == "failed"
        session.get_one(Job, job.id).finished_at = datetime.now(UTC) - timedelta(hours=2)
    store(database, storage, b"3", models[0])
    store(database, storage, b"4", models[0])
    with database.transaction() as session:
        assert session.get_one(Job, job.id).status == "queued"
