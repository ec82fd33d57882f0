"""One trace leads from the request that queued a job to each process that trained for it."""

import sys
from pathlib import Path

import httpx
import pytest

from service.core import tracing
from service.core.db import Database
from service.core.storage import LocalStorage, sha256_of
from tests.collector import collecting
from tests.service.conftest import serving
from tests.trainer.job_plane import add_dataset, add_node, get, make_settings, place
from tests.trainer.pretraining import RECIPE, run_folder
from trainer.agent import Agent
from trainer.devices import DevicePool
from trainer.files import NodeFiles
from trainer.host import Host

DATASET = f"ds_{1:026d}"


@pytest.fixture
def host(tmp_path: Path, postgres_url: str, redis_url: str, database: Database, storage: LocalStorage) -> Host:
    """A node that really trains, if only exports for show, and a data set that it has."""
    cache = tmp_path / "cache"
    cache.mkdir()
    packed = run_folder(tmp_path / "packed").dataset
    files = {path.name: {"key": path.name, "sha256": sha256_of(path)} for path in packed.iterdir()}
    for path in packed.iterdir():
        storage.put_file(path.name, path)
    splits = {"train": {"num_images": 20, "per_class": [10, 10]}}
    add_dataset(database, id=DATASET, files=files, classes=["a", "b"], splits=splits)
    settings = make_settings(tmp_path, postgres_url, redis_url, auth="off", lease_seconds=30)
    commands = {"pretrain": (sys.executable, "-m", "tests.trainer.traced_run")}
    return Host(settings, database, storage, NodeFiles(storage, cache), DevicePool([]), commands)


def test_from_the_request_to_the_ranks(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job's row carries the trace to the node, the environment to the launcher, to each rank and its checkpoint."""
    recipe = {**RECIPE, "schedule": {"epochs": 1, "warmup_epochs": 0}}
    resources = {"device": "cpu", "processes_per_node": 2}
    request = {"kind": "pretrain", "dataset_id": DATASET, "recipe": recipe, "resources": resources}
    with collecting(monkeypatch) as collector:
        with serving(host.settings) as url:
            accepted = httpx.post(f"{url}/v1/jobs", json=request, timeout=30)
            assert accepted.status_code == 202, accepted.text
        add_node(host.database, cpu=2)
        (row,) = place(host.database)
        Agent(host, row.job_id, row.attempt, row.token).run()
        tracing.stop()
    assert get(host.database, row.job_id).status == "succeeded"
    path = ["launch", "attempt", "submit job", "POST /v1/jobs"]
    ranks = sorted(collector.named("rank"), key=lambda span: span.attributes["simclr.rank"])
    assert [collector.ancestors(rank) for rank in ranks] == [path, path]
    assert {span.trace_id for span in collector.spans} == {collector.one("POST /v1/jobs").trace_id}
    assert collector.one("checkpoint").parent_id == ranks[0].span_id
    attempt = collector.one("attempt").attributes
    assert (attempt["simclr.job_id"], attempt["simclr.status"]) == (row.job_id, "succeeded")
    assert {rank.service for rank in ranks} == {"simclr-trainer"}
