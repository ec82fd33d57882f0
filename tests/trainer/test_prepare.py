"""A run folder holds what its process needs."""

import hashlib
from pathlib import Path

from service.core.db import Database
from service.core.storage import LocalStorage
from service.core.tables import Placement
from tests.trainer.job_plane import FAKES, add_dataset, get, make_settings, submit
from trainer.devices import DevicePool
from trainer.files import NodeFiles
from trainer.host import Host
from trainer.prepare import prepare_run
from trainer.run import RunFolder


def test_ingestion_gets_the_archive_and_the_limits_of_the_settings(
    tmp_path: Path, postgres_url: str, database: Database, storage: LocalStorage
) -> None:
    """The process, which sees no settings, is told their limits, also how long an image may take to decode."""
    cache = tmp_path / "cache"
    cache.mkdir()
    settings = make_settings(tmp_path, postgres_url, decode_timeout_seconds=1.5, max_image_side=777)
    host = Host(settings, database, storage, NodeFiles(storage, cache), DevicePool(0), FAKES)
    storage.put("datasets/ds_1/archive", b"an archive")
    dataset_id = add_dataset(database, archive_sha256=hashlib.sha256(b"an archive").hexdigest())
    job = get(database, submit(database, "ingest", dataset_id=dataset_id))
    run = RunFolder(tmp_path / "run")
    prepare_run(host, job, run, Placement(node_rank=0, slot="light"))
    limits = run.spec().limits
    assert limits is not None
    assert (limits.decode_timeout_seconds, limits.max_image_side) == (1.5, 777)
    assert limits.model_dump() == {name: getattr(settings, name) for name in limits.model_dump()}
    assert run.archive.read_bytes() == b"an archive"
