"""A run folder holds what its process needs."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sqlalchemy import delete

from models.collection_map import MapRecipe
from service.core import vectors
from service.core.db import Database
from service.core.storage import LocalStorage
from service.core.tables import Collection, Job, Placement
from tests.service.core.stored_images import add_images, image_ids, model_of_size
from tests.trainer.job_plane import FAKES, add_dataset, get, make_settings, submit
from trainer.devices import DevicePool
from trainer.files import NodeFiles
from trainer.host import Host
from trainer.prepare import prepare_run
from trainer.run import RunError, RunFolder
from trainer.vector_file import read_vectors


@pytest.fixture
def host(tmp_path: Path, postgres_url: str, database: Database, storage: LocalStorage) -> Host:
    """A node with settings of its own."""
    cache = tmp_path / "cache"
    cache.mkdir()
    settings = make_settings(tmp_path, postgres_url, decode_timeout_seconds=1.5, max_image_side=777)
    return Host(settings, database, storage, NodeFiles(storage, cache), DevicePool([]), FAKES)


def test_ingestion_gets_the_archive_and_the_limits_of_the_settings(
    tmp_path: Path, host: Host, database: Database, storage: LocalStorage
) -> None:
    """The process, which sees no settings, is told their limits, also how long an image may take to decode."""
    storage.put("datasets/ds_1/archive", b"an archive")
    dataset_id = add_dataset(database, archive_sha256=hashlib.sha256(b"an archive").hexdigest())
    job = get(database, submit(database, "ingest", dataset_id=dataset_id))
    run = RunFolder(tmp_path / "run")
    prepare_run(host, job, run, Placement(node_rank=0, slot="light"))
    limits = run.spec().limits
    assert limits is not None
    assert (limits.decode_timeout_seconds, limits.max_image_side) == (1.5, 777)
    assert limits.model_dump() == {name: getattr(host.settings, name) for name in limits.model_dump()}
    assert run.archive.read_bytes() == b"an archive"


def map_job(database: Database, h: NDArray[np.float32]) -> tuple[Job, list[str]]:
    """A job for the collection of all images but the last, and the images' ids."""
    ids = sorted(image_ids(len(h)))
    with database.transaction() as session:
        collection_id = add_images(session, ids[:-1])
        add_images(session, ids[-1:], name="others")
        model = model_of_size(session, h.shape[1])
        vectors.insert_vectors(session, vectors.ensure_table(session, model, "h"), ids, h)
    recipe = MapRecipe(collection_id=collection_id).model_dump()
    return get(database, submit(database, "map", recipe=recipe, model_id=model.id)), ids


def test_a_map_gets_the_directions_of_its_collection(
    tmp_path: Path, host: Host, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In order of id, over several blocks, as many as a map takes; a vector of zeros has no direction."""
    monkeypatch.setattr("service.core.exact_search.BLOCK_VALUES", 6)
    monkeypatch.setattr("trainer.collection_vectors.MAX_VALUES", 3 * 6)
    h = np.random.default_rng(0).standard_normal((9, 3)).astype(np.float32)
    h[2] = 0
    job, ids = map_job(database, h)
    run = RunFolder(tmp_path / "run")
    prepare_run(host, job, run, Placement(node_rank=0, slot="light"))
    found, units = read_vectors(run.vectors)
    assert found == [*ids[:2], *ids[3:6]]
    kept = h[[0, 1, 3, 4, 5]]
    np.testing.assert_allclose(units, kept / np.linalg.norm(kept, axis=1, keepdims=True), rtol=1e-6)


def test_a_map_of_what_was_deleted_fails(tmp_path: Path, host: Host, database: Database) -> None:
    """By a code that names the collection."""
    job, _ = map_job(database, np.ones((2, 3), np.float32))
    with database.transaction() as session:
        session.execute(delete(Collection))
    with pytest.raises(RunError, match="the collection was deleted"):
        prepare_run(host, job, RunFolder(tmp_path / "run"), Placement(node_rank=0, slot="light"))
