"""The index job, against a real database and storage."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import text, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from models.config import IndexRecipe
from models.embedder import Embedder
from models.preprocess import ImageLimits, decode, to_input
from service.core import jobs, vectors
from service.core.aliases import SWITCH_LOCK
from service.core.db import Database
from service.core.errors import Conflict, Unavailable
from service.core.ids import new_id
from service.core.settings import Settings, child_environment
from service.core.storage import LocalStorage
from service.core.tables import DEFAULT_TENANT, Alias, Image, Job, Model
from tests.small_models import publish
from tests.trainer.images import image_file
from trainer import index
from trainer.index import Attempt, Indexer
from trainer.run import AWAY, INTERRUPTED, RunFolder, RunSpec

LIMITS = ImageLimits(max_bytes=10**7, max_pixels=10**7, max_side=10**4)
NUM_IMAGES = 20


@pytest.fixture
def model(database: Database, storage: LocalStorage) -> Model:
    return publish(database, storage, alias=None)


@pytest.fixture
def job(database: Database, model: Model) -> Job:
    """A running index job, in its first attempt."""
    with database.transaction() as session:
        queued = jobs.submit(
            session, kind="index", recipe=IndexRecipe().model_dump(), model_id=model.id, tenant=model.tenant
        )
        return jobs.start(session, queued)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    run = RunFolder(tmp_path / "run")
    run.create(RunSpec(kind="index", recipe={"batch_size": 8}))
    return run


def store(database: Database, storage: LocalStorage, content: bytes, id_: str | None = None) -> str:
    """An image of 8 x 8 pixels; its id."""
    id_ = id_ or new_id("img")
    storage.put(f"images/{id_}", content)
    with database.transaction() as session:
        image = Image(id=id_, key=f"images/{id_}", format="png", width=8, height=8, num_bytes=len(content))
        session.add(image)
    return id_


def fill(database: Database, storage: LocalStorage) -> dict[str, bytes]:
    """Images in storage, by id."""
    contents = [image_file(seed, size=(8, 8)) for seed in range(NUM_IMAGES)]
    return {store(database, storage, content): content for content in contents}


def found_vectors(
    database: Database, model: Model, ids: list[str]
) -> dict[str, np.ndarray[tuple[int], np.dtype[np.float32]]]:
    with database.transaction() as session:
        table = vectors.find_table(session, model.id, "h")
        return vectors.stored_vectors(session, table, ids) if table else {}


def start(run: RunFolder, job: Job, model_id: str, postgres_url: str, storage: LocalStorage) -> int:
    """Run the job as the worker does; the exit status."""
    command = [sys.executable, "-m", "trainer.index", str(run.path)]
    command += ["--job", job.id, "--attempt", str(job.attempt), "--model", model_id]
    environment = child_environment(database_url=postgres_url, data_dir=str(storage.root.parent))
    return subprocess.run(command, env=environment, timeout=120, check=False).returncode


def test_the_missing_vectors_are_written(
    database: Database, storage: LocalStorage, model: Model, job: Job, run: RunFolder, postgres_url: str
) -> None:
    """Every image gets the h of its pixels, but the damaged one, which is named; what was there stays."""
    contents = fill(database, storage)
    damaged = store(database, storage, b"no image")
    done = next(iter(contents))
    with database.transaction() as session:
        table = vectors.ensure_table(session, model, "h")
        vectors.insert_vectors(session, table, [done], np.full((1, table.size), 7, np.float32))
    assert start(run, job, model.id, postgres_url, storage) == 0
    found = found_vectors(database, model, [*contents, damaged])
    assert found.keys() == contents.keys()
    assert set(found.pop(done)) == {7}
    for id_, h in found.items():
        expected = np.sort(decode(contents[id_], LIMITS).pixels.ravel() / 255)
        np.testing.assert_allclose(np.sort(h), expected, atol=1e-6)
    result = json.loads(run.result.read_text())
    assert (result["num_indexed"], result["num_images"]) == (NUM_IMAGES - 1, NUM_IMAGES + 1)
    assert result["images_per_second"] > 0
    events = [json.loads(line) for line in run.events.read_text().splitlines()]
    assert [damaged in event["message"] for event in events if event["type"] == "warning"] == [True]
    assert [event["step"] for event in events if event["type"] == "metrics"][-1] == NUM_IMAGES - 1


def test_an_attempt_that_is_over_writes_nothing(
    database: Database, storage: LocalStorage, model: Model, job: Job, run: RunFolder, postgres_url: str
) -> None:
    """When the job has gone to another attempt, the process ends before its first write, without a result."""
    ids = list(fill(database, storage))
    with database.transaction() as session:
        session.execute(update(Job).where(Job.id == job.id).values(attempt=Job.attempt + 1))
    assert start(run, job, model.id, postgres_url, storage) == INTERRUPTED
    assert not run.result.exists()
    assert found_vectors(database, model, ids) == {}


def test_a_model_that_is_gone(
    database: Database, storage: LocalStorage, job: Job, run: RunFolder, postgres_url: str
) -> None:
    """The job fails with a code of its own."""
    assert start(run, job, new_id("mdl"), postgres_url, storage) == 1
    assert json.loads(run.error.read_text())["code"] == "not_found"


@pytest.mark.parametrize("away", ["database", "storage"])
def test_what_is_away_is_no_failure(
    postgres_url: str,
    database: Database,
    storage: LocalStorage,
    model: Model,
    job: Job,
    run: RunFolder,
    monkeypatch: pytest.MonkeyPatch,
    away: str,
) -> None:
    """A database that goes away between two batches, and a storage, end the process with AWAY and without an error."""
    fill(database, storage)
    failure = OperationalError("insert", None, Exception()) if away == "database" else None

    def fail(*_: object) -> None:
        raise failure or Unavailable("away", retry_after_seconds=5)

    settings = Settings(data_dir=storage.root.parent, database_url=postgres_url, num_ort_threads=1)
    monkeypatch.setattr(index, "get_settings", lambda: settings)
    monkeypatch.setattr(*((vectors, "insert_vectors") if failure else (LocalStorage, "get")), fail)
    arguments = [str(run.path), "--job", job.id, "--attempt", str(job.attempt), "--model", model.id]
    assert index.main(arguments) == AWAY
    assert not run.error.exists()
    assert not run.result.exists()


def test_images_uploaded_meanwhile_get_their_vectors(
    database: Database, storage: LocalStorage, model: Model, job: Job, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one whose place in the order has been passed; a damaged image is read and named once only."""
    fill(database, storage)
    damaged = store(database, storage, b"no image")
    indexer = Indexer(Settings(data_dir=storage.root.parent, num_ort_threads=1), database, storage, run)
    insert = vectors.insert_vectors
    late: list[str] = []

    def insert_and_upload(*arguments: object) -> None:
        insert(*arguments)  # type: ignore[arg-type]  # passed through
        if not late:
            late.append(store(database, storage, image_file(99, size=(8, 8)), "aaa"))

    monkeypatch.setattr(vectors, "insert_vectors", insert_and_upload)
    assert indexer.index(model.id, Attempt(job.id, job.attempt))["num_indexed"] == NUM_IMAGES + 1
    assert found_vectors(database, model, late).keys() == set(late)
    warnings = [line for line in run.events.read_text().splitlines() if damaged in line]
    assert len(warnings) == 1


def test_a_cancelled_job_stops_and_its_next_attempt_goes_on(
    database: Database, storage: LocalStorage, model: Model, job: Job, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches that were written stay written; the next run adds the rest only."""
    contents = fill(database, storage)
    settings = Settings(data_dir=storage.root.parent, num_ort_threads=1)
    indexer = Indexer(settings, database, storage, run)
    insert = vectors.insert_vectors
    written: list[str] = []

    def insert_then_cancel(*arguments: object) -> None:
        insert(*arguments)  # type: ignore[arg-type]  # passed through
        written.extend(arguments[2])  # type: ignore[arg-type]  # the ids
        if len(written) == 8:
            with database.transaction() as session:
                session.execute(update(Job).where(Job.id == job.id).values(status="cancelling"))

    monkeypatch.setattr(vectors, "insert_vectors", insert_then_cancel)
    with pytest.raises(jobs.Fenced):
        indexer.index(model.id, Attempt(job.id, job.attempt))
    assert found_vectors(database, model, list(contents)).keys() == set(written)
    with database.transaction() as session:
        session.execute(update(Job).where(Job.id == job.id).values(status="running", attempt=2))
    assert indexer.index(model.id, Attempt(job.id, 2))["num_indexed"] == NUM_IMAGES - 8
    assert sorted(written) == sorted(contents)


def test_images_are_indexed_by_the_variant_that_serves(
    database: Database, storage: LocalStorage, run: RunFolder
) -> None:
    """With the setting int8 the vectors are those of the model's int8 file, as a query's are."""
    model = publish(database, storage, encoder="resnet10", side=16, alias=None, variants=("int8",))
    with database.transaction() as session:
        queued = jobs.submit(
            session, kind="index", recipe=IndexRecipe().model_dump(), model_id=model.id, tenant=model.tenant
        )
        job = jobs.start(session, queued)
    contents = fill(database, storage)
    settings = Settings(data_dir=storage.root.parent, num_ort_threads=1, variant="int8")
    Indexer(settings, database, storage, run).index(model.id, Attempt(job.id, job.attempt))
    embedder = Embedder(storage.fetch(model.files["model-int8.onnx"]["key"], run.path), num_threads=1)
    for id_, h in found_vectors(database, model, list(contents)).items():
        image = to_input(decode(contents[id_], LIMITS).pixels, embedder.preprocessing)
        np.testing.assert_allclose(h, embedder.embed(image[None])[0], rtol=1e-5, atol=1e-6)


def test_a_large_table_gets_its_index(
    database: Database, storage: LocalStorage, model: Model, job: Job, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the limit of exact search the job builds and measures the index, also when no vector was missing."""
    fill(database, storage)
    settings = Settings(data_dir=storage.root.parent, num_ort_threads=1)
    indexer = Indexer(settings, database, storage, run)
    monkeypatch.setattr(index, "READERS", 3)
    for limit, expected in ((NUM_IMAGES, False), (NUM_IMAGES - 1, True)):
        monkeypatch.setattr(vectors, "EXACT_LIMIT", limit)
        indexer.index(model.id, Attempt(job.id, job.attempt))
        with database.transaction() as session:
            table = vectors.find_table(session, model.id, "h")
            assert table is not None
            assert vectors.has_index(session, table) is expected
            assert (table.recall == 1) is expected


def served(database: Database) -> str | None:
    """The model in production."""
    with database.transaction() as session:
        alias = session.get(Alias, (DEFAULT_TENANT, "production"))
        return alias and alias.model_id


def test_an_alias_is_switched_once_all_have_their_vectors(
    database: Database, storage: LocalStorage, model: Model, job: Job, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what came in the last moment; until then the alias serves the model before. A damaged one is passed over."""
    before = publish(database, storage)
    fill(database, storage)
    store(database, storage, b"no image")
    run.create(RunSpec(kind="index", recipe={"batch_size": 8, "promote_to": "production"}))
    indexer = Indexer(Settings(data_dir=storage.root.parent, num_ort_threads=1), database, storage, run)
    insert, lock, late = vectors.insert_vectors, index.lock_switches, []

    def note_and_insert(*arguments: object) -> None:
        assert served(database) == before.id
        insert(*arguments)  # type: ignore[arg-type]  # passed through

    def upload_and_lock(session: Session, tenant: str) -> None:
        late.append(store(database, storage, image_file(99, size=(8, 8))))
        lock(session, tenant)

    monkeypatch.setattr(vectors, "insert_vectors", note_and_insert)
    monkeypatch.setattr(index, "lock_switches", upload_and_lock)
    result = indexer.index(model.id, Attempt(job.id, job.attempt))
    assert (result["alias"], result["previous_model_id"]) == ("production", before.id)
    assert served(database) == model.id
    assert found_vectors(database, model, late).keys() == set(late)


def test_an_upload_does_not_wait_for_many(
    database: Database, storage: LocalStorage, model: Model, job: Job, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than a batch of images that came in the last moment are embedded before the switch is tried again."""
    fill(database, storage)
    run.create(RunSpec(kind="index", recipe={"batch_size": 4, "promote_to": "production"}))
    indexer = Indexer(Settings(data_dir=storage.root.parent, num_ort_threads=1), database, storage, run)
    insert, lock, locked = vectors.insert_vectors, index.lock_switches, []

    def insert_unlocked(*arguments: object) -> None:
        with database.transaction() as session:
            held = "select count(*) from pg_locks where locktype = 'advisory' and classid = :lock"
            assert session.execute(text(held), {"lock": SWITCH_LOCK}).scalar_one() == 0
        insert(*arguments)  # type: ignore[arg-type]  # passed through

    def upload_and_lock(session: Session, tenant: str) -> None:
        if not locked:
            for seed in range(5):
                store(database, storage, image_file(100 + seed, size=(8, 8)))
        locked.append(True)
        lock(session, tenant)

    monkeypatch.setattr(vectors, "insert_vectors", insert_unlocked)
    monkeypatch.setattr(index, "lock_switches", upload_and_lock)
    assert indexer.index(model.id, Attempt(job.id, job.attempt))["num_indexed"] == NUM_IMAGES + 5
    assert len(locked) == 2
    assert served(database) == model.id


def test_a_cancelled_job_and_a_damaged_model_switch_nothing(
    database: Database, storage: LocalStorage, model: Model, job: Job, run: RunFolder
) -> None:
    """The alias stays where it was."""
    before = publish(database, storage)
    run.create(RunSpec(kind="index", recipe={"promote_to": "production"}))
    indexer = Indexer(Settings(data_dir=storage.root.parent, num_ort_threads=1), database, storage, run)
    with database.transaction() as session:
        session.execute(update(Job).where(Job.id == job.id).values(status="cancelling"))
    with pytest.raises(jobs.Fenced):
        indexer.index(model.id, Attempt(job.id, job.attempt))
    with database.transaction() as session:
        session.execute(update(Job).where(Job.id == job.id).values(status="running"))
        files = session.get_one(Model, model.id).files
        session.get_one(Model, model.id).files = {**files, "more.bin": {"key": "none", "sha256": "", "num_bytes": 1}}
    with pytest.raises(Conflict, match=r"more\.bin"):
        indexer.index(model.id, Attempt(job.id, job.attempt))
    assert served(database) == before.id
