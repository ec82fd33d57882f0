"""The worker as a process of its own: killed, stopped, without its broker; and what it doesn't import."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import func, select

from service.core.db import Database
from service.core.settings import Settings
from service.core.tables import Node
from service.embedded.valkey import EmbeddedValkey
from tests.trainer.job_plane import (
    FAKES,
    LEASE_SECONDS,
    MODEL_JSON,
    add_dataset,
    add_model,
    assert_gone,
    environment_of,
    events,
    get,
    is_alive,
    make_settings,
    pids_in,
    statuses,
    submit,
    wait_until,
)
from trainer.worker import _or_stop


@pytest.fixture
def settings(tmp_path: Path, postgres_url: str, redis_url: str) -> Settings:
    """Settings of a worker that no other test shares a queue with."""
    return make_settings(tmp_path, postgres_url, redis_url, node_name=f"node-{tmp_path.name}"[:64])


DAY = 24 * 3600
CLOCK = """
import datetime, time
real = datetime.datetime
seconds, nanoseconds, wrong_by = time.time, time.time_ns, {wrong_by}
time.time = lambda: seconds() + wrong_by
time.time_ns = lambda: nanoseconds() + wrong_by * 10**9
class Wrong(real):
    @classmethod
    def now(cls, tz=None):
        return real.fromtimestamp(time.time(), tz)
datetime.datetime = Wrong
"""


def start(settings: Settings, commands: Mapping[str, Sequence[str]], wrong_by: int = 0) -> subprocess.Popen[bytes]:
    """A worker that runs these commands for the kinds of jobs; its clock may be wrong by some seconds."""
    folder = settings.data_dir
    clock = CLOCK.format(wrong_by=wrong_by) if wrong_by else ""
    with (folder / "worker.log").open("ab") as log:
        code = f"{clock}\nfrom trainer.worker import main\nraise SystemExit(main({commands!r}))"
        return subprocess.Popen([sys.executable, "-c", code], stdout=log, stderr=log, env=environment_of(settings))


@contextmanager
def worker(
    settings: Settings, commands: Mapping[str, Sequence[str]] = FAKES, wrong_by: int = 0
) -> Iterator[subprocess.Popen[bytes]]:
    """A worker, by default one whose jobs are fake, that is gone after the block."""
    process = start(settings, commands, wrong_by)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def index(database: Database, **recipe: object) -> str:
    """An index job for a model."""
    return submit(database, "index", model_id=add_model(database), recipe=recipe)


def test_a_killed_worker_leaves_no_process_and_its_job_ends_once(
    database: Database, settings: Settings, tmp_path: Path
) -> None:
    """A kill -9 takes the job's process along; after the lease another worker runs the job, which ends exactly once."""
    pids = tmp_path / "pids"
    recipe = {"steps": 150, "pause": 0.03, "checkpoint_every": 10, "pids": str(pids)}
    recipe |= {"output": dict.fromkeys(("model.onnx", "encoder.pt"), "{}") | {"model.json": MODEL_JSON}}
    job_id = submit(database, "pretrain", dataset_id=add_dataset(database), recipe=recipe)
    with worker(settings) as first:
        wait_until(lambda: events(database, job_id, "checkpoint"))
        first.send_signal(signal.SIGKILL)
        process, child = pids_in(pids)
        wait_until(lambda: not is_alive(process), seconds=2)
        os.kill(child, signal.SIGKILL)  # processes that a job's process starts have to see to this themselves
    other = settings.model_copy(update={"node_name": "node-b"})
    with worker(other):
        took = wait_until(lambda: len(events(database, job_id, "stage")) == 2, seconds=20)
        wait_until(lambda: get(database, job_id).status == "succeeded")
    assert took < 15
    assert statuses(database, job_id) == ["queued", "running", "queued", "running", "succeeded"]
    assert events(database, job_id, "stage")[1].data["first_step"] >= 10


@pytest.mark.parametrize("wrong_by", [DAY, -DAY])
def test_clocks_that_differ_by_two_days_change_nothing(database: Database, settings: Settings, wrong_by: int) -> None:
    """Leases are the database's time: a worker that lives keeps its job, one that is killed loses it soon.

    Whichever of both clocks is ahead: the first worker leads, the second is the one that follows it.
    """
    recipe = {"steps": 300, "pause": 0.03, "checkpoint_every": 10}
    recipe |= {"output": dict.fromkeys(("model.onnx", "encoder.pt"), "{}") | {"model.json": MODEL_JSON}}
    job_id = submit(database, "pretrain", dataset_id=add_dataset(database), recipe=recipe)
    with worker(settings, wrong_by=wrong_by) as first:
        wait_until(lambda: events(database, job_id, "checkpoint"))
        with worker(settings.model_copy(update={"node_name": "node-b"}), wrong_by=-wrong_by):
            wait_until(lambda: num_nodes(database) == 2)
            time.sleep(2 * LEASE_SECONDS)
            assert statuses(database, job_id) == ["queued", "running"]
            first.send_signal(signal.SIGKILL)
            took = wait_until(lambda: len(events(database, job_id, "stage")) == 2, seconds=20)
            wait_until(lambda: get(database, job_id).status == "succeeded", seconds=30)
    assert took < 15
    assert statuses(database, job_id) == ["queued", "running", "queued", "running", "succeeded"]
    log = (settings.data_dir / "worker.log").read_text()
    days = {json.loads(line)["timestamp"][:10] for line in log.splitlines() if line.startswith("{")}
    assert len(days) == 2, "their clocks are not wrong"


def test_sigterm_gives_the_jobs_back_and_ends_within_seconds(
    database: Database, settings: Settings, tmp_path: Path
) -> None:
    """The process is asked to stop, the job is queued at once, the node's row is gone, and the exit code is 0."""
    pids = tmp_path / "pids"
    job_id = index(database, end="hang", pids=str(pids))
    with worker(settings) as process:
        wait_until(pids.exists)
        process.terminate()
        assert process.wait(timeout=5) == 0
    assert_gone(pids)
    assert statuses(database, job_id)[-1] == "queued"
    assert num_nodes(database) == 0


def test_a_job_submitted_while_redis_is_away_runs_when_it_is_back(
    database: Database, settings: Settings, tmp_path: Path
) -> None:
    """A job that runs meanwhile isn't disturbed; the waiting one starts within ten seconds of the return."""
    server = EmbeddedValkey(tmp_path / "valkey", tmp_path / "valkey.log")
    url = server.start()
    with worker(settings.model_copy(update={"redis_url": url})):
        before = index(database, steps=100_000, pause=0.05)
        wait_until(lambda: get(database, before).progress)
        server.stop()
        during = submit(database, "index", model_id="mdl_1", recipe={})
        wait_until(lambda: get(database, during).status == "running")
        step = progress_step(database, before)
        wait_until(lambda: progress_step(database, before) > step + 40)
        assert server.start() == url
        wait_until(lambda: get(database, during).status == "succeeded", seconds=10)
        assert statuses(database, before) == ["queued", "running"]
    server.stop()


def num_nodes(database: Database) -> int:
    """Workers that have announced themselves."""
    with database.transaction() as session:
        return session.scalar(select(func.count()).select_from(Node)) or 0


def progress_step(database: Database, job_id: str) -> int:
    """Step of the job's progress."""
    return int((get(database, job_id).progress or {"step": 0})["step"])


def test_the_worker_process_has_no_torch() -> None:
    """Neither the worker nor anything it imports loads torch; only the jobs' processes do."""
    code = "import sys, trainer.worker; raise SystemExit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_node_says_what_it_can_run(database: Database, settings: Settings) -> None:
    """Slots, cores and versions are in its row, and the heartbeat goes on."""
    with worker(settings.model_copy(update={"num_cpu_slots": 3})):
        wait_until(lambda: node(database))
        first = node(database)
        assert first is not None
        assert (first.slots["cpu"], first.slots["light"]) == (3, 2)
        assert first.devices["cpu"]["num_cores"] == len(os.sched_getaffinity(0))
        assert first.versions["python"] == sys.version.split()[0]
        wait_until(lambda: node(database).heartbeat_at > first.heartbeat_at)  # type: ignore[union-attr]


def test_a_gpu_that_torch_cannot_use_is_no_slot(
    database: Database, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver lists one that isn't there: a job for any device runs on the CPU, and the log says what to do."""
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho GPU-a1, NVIDIA H200\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a1")
    job_id = submit(database, "knn_probe", dataset_id=add_dataset(database), model_id=add_model(database))
    with worker(settings):
        wait_until(lambda: get(database, job_id).status == "succeeded", seconds=40)
        here = node(database)
    assert here is not None
    assert (here.slots["cuda"], here.devices["cuda"]) == (0, [])
    log = (tmp_path / "worker.log").read_text()
    assert log.count("GPUs are not used") == 1
    assert "GPU-a1: NVIDIA H200" in log


def node(database: Database) -> Node | None:
    """The only node."""
    with database.transaction() as session:
        return session.scalar(select(Node))


def test_a_worker_without_its_scheduler_or_presence_stops() -> None:
    """A thread that breaks sends the worker SIGTERM, so that it is started again, and its error isn't swallowed."""
    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: received.append(number))

    def broken() -> None:
        raise KeyError("nodes")

    try:
        with pytest.raises(KeyError, match="nodes"):
            _or_stop(broken)()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert received == [signal.SIGTERM]
