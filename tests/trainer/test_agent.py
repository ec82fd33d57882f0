"""An agent runs one attempt of a job: process, events, checkpoints, cancel, faults."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import func, select, text

from service.core import jobs
from service.core.db import Database
from service.core.storage import LocalStorage, sha256_of
from service.core.tables import Checkpoint, Placement
from tests.trainer.job_plane import (
    FAKES,
    MODEL_JSON,
    add_dataset,
    add_model,
    agent_for,
    assert_gone,
    events,
    get,
    is_alive,
    make_settings,
    pids_in,
    statuses,
    submit,
    wait_until,
)
from trainer.agent import Agent
from trainer.devices import DevicePool
from trainer.files import NodeFiles
from trainer.host import Host
from trainer.process import environment


@pytest.fixture
def host(tmp_path: Path, postgres_url: str, database: Database, storage: LocalStorage) -> Host:
    """A host without GPUs whose processes are fake."""
    cache = tmp_path / "cache"
    cache.mkdir()
    settings = make_settings(tmp_path, postgres_url)
    return Host(settings, database, storage, NodeFiles(storage, cache), DevicePool([]), FAKES)


@contextmanager
def running(agent: Agent) -> Iterator[threading.Thread]:
    """The agent at work in a thread, which ends in time."""
    thread = threading.Thread(target=agent.run)
    thread.start()
    try:
        yield thread
    finally:
        agent.host.stopping.set()
        thread.join(timeout=20)
        assert not thread.is_alive()


def pretrain(host: Host, **recipe: object) -> str:
    """A pretraining job on a ready data set."""
    return submit(host.database, "pretrain", dataset_id=add_dataset(host.database), recipe=recipe)


def index(host: Host, **recipe: object) -> str:
    """An index job for a model."""
    return submit(host.database, "index", model_id=add_model(host.database), recipe=recipe)


def test_a_job_runs_to_its_result(host: Host) -> None:
    """Result, log, status events and the freed slot are there; the run folder is not."""
    job_id = index(host)
    agent_for(host, job_id).run()
    job = get(host.database, job_id)
    assert (job.status, job.result, job.error) == ("succeeded", {"answer": 42}, None)
    assert statuses(host.database, job_id) == ["queued", "running", "succeeded"]
    assert host.storage.get(f"jobs/{job_id}/log-1.txt") == b"the last line\n"
    assert not (host.settings.runs_dir("node-a") / job_id / "1").exists()
    with host.database.transaction() as session:
        assert session.scalar(select(Placement.ended_at)) is not None


@pytest.mark.parametrize(
    ("num_cpu_slots", "slot", "num_slots", "threads"),
    [
        (1, "cpu", 1, None),
        (2, "cpu", 1, "4"),
        (2, "cpu", 2, "4"),
        (16, "cpu", 1, "1"),
        (1, "cuda", 4, "2"),
        (1, "cuda", 1, "2"),
        (2, "cuda", 2, "2"),
        (2, "light", 1, None),
    ],
)
def test_processes_share_the_cores(
    monkeypatch: pytest.MonkeyPatch, num_cpu_slots: int, slot: str, num_slots: int, threads: str | None
) -> None:
    """Of eight: a CPU slot has the part that all slots leave it, each of the node's four GPUs a fourth."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("trainer.process.cpu", lambda: {"num_cores": 8})
    settings = make_settings(Path(), "", num_cpu_slots=num_cpu_slots)
    placed = Placement(slot=slot, num_slots=num_slots, num_nodes=1)
    assert environment(settings, "knn_probe", placed, 4).get("OMP_NUM_THREADS") == threads


def test_the_only_gpu_has_all_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """No number of threads is set, whatever the number of CPU slots."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    placed = Placement(slot="cuda", num_slots=1, num_nodes=1)
    settings = make_settings(Path(), "", num_cpu_slots=2)
    assert "OMP_NUM_THREADS" not in environment(settings, "knn_probe", placed, 1)


def test_an_index_job_is_told_who_it_is_in_the_database(host: Host) -> None:
    """Job, attempt and model are arguments of its process."""
    job_id = index(host)
    agent_for(host, job_id).run()
    (stage,) = events(host.database, job_id, "stage")
    assert stage.data["arguments"] == ["--job", job_id, "--attempt", "1", "--model", "mdl_1"]


def test_every_event_of_the_process_arrives_once_and_in_order(host: Host) -> None:
    """Of 2,000 events none is lost, doubled or moved, and the last step is the job's progress."""
    job_id = index(host, steps=2000)
    agent_for(host, job_id).run()
    metrics = events(host.database, job_id, "metrics")
    assert [event.data["step"] for event in metrics] == list(range(1, 2001))
    progress = get(host.database, job_id).progress
    assert progress is not None
    assert (progress["step"], progress["steps"], progress["eta_seconds"]) == (2000, 2000, 0)


def test_a_commit_whose_answer_was_lost_stores_no_event_twice(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent's connection breaks right after each third commit; the events are still there once each."""
    job_id = index(host, steps=200, pause=0.005)
    agent = agent_for(host, job_id)
    original, calls = host.database.transaction, iter(range(10_000))

    @contextmanager
    def transaction() -> Iterator[object]:
        breaks = next(calls) % 3 == 2
        with original() as session:
            yield session
        if breaks:
            with original() as session:
                session.execute(text("select pg_terminate_backend(pg_backend_pid())"))

    monkeypatch.setattr(host.database, "transaction", transaction)
    agent.run()
    monkeypatch.undo()
    steps = [event.data["step"] for event in events(host.database, job_id, "metrics")]
    assert steps == list(range(1, 201))
    assert get(host.database, job_id).status == "succeeded"


def test_a_cancel_kills_the_process_and_its_children(host: Host, tmp_path: Path) -> None:
    """Within two seconds of the request both are gone and the job is cancelled, though SIGTERM is ignored."""
    pids = tmp_path / "pids"
    job_id = index(host, end="hang", stubborn=True, pids=str(pids))
    with running(agent_for(host, job_id)):
        wait_until(pids.exists)
        with host.database.transaction() as session:
            assert jobs.request_cancel(session, job_id).status == "cancelling"
        wait_until(lambda: get(host.database, job_id).status == "cancelled", seconds=2)
        assert_gone(pids, seconds=1)


def test_a_worker_that_stops_gives_the_job_back_with_its_last_checkpoint(host: Host) -> None:
    """The process writes a state, the job is queued without a mark against it, and the next attempt goes on there."""
    job_id = pretrain(host, steps=400, pause=0.02)
    with running(agent_for(host, job_id)) as thread:
        wait_until(lambda: get(host.database, job_id).progress)
        host.stopping.set()
        thread.join(timeout=5)
    job = get(host.database, job_id)
    assert (job.status, job.attempts_without_progress) == ("queued", 0)
    with host.database.transaction() as session:
        step = session.scalar(select(Checkpoint.step))
    host.stopping.clear()
    with running(agent_for(host, job_id)):
        wait_until(lambda: len(events(host.database, job_id, "stage")) == 2)
    assert events(host.database, job_id, "stage")[1].data["first_step"] == step


def test_a_process_that_does_not_stop_is_killed(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the grace the job is queued all the same."""
    monkeypatch.setattr("trainer.agent.INTERRUPT_SECONDS", 0.5)
    pids = tmp_path / "pids"
    job_id = index(host, end="hang", stubborn=True, pids=str(pids))
    with running(agent_for(host, job_id)):
        wait_until(pids.exists)
        host.stopping.set()
        wait_until(lambda: get(host.database, job_id).status == "queued", seconds=4)
    assert_gone(pids)


def test_a_killed_process_is_run_again_from_its_checkpoint(host: Host, tmp_path: Path) -> None:
    """The reason is in the event, and the second attempt ends the job."""
    job_id = pretrain(host, steps=40, pause=0.02, checkpoint_every=5, die_once=str(tmp_path / "died"), output=MODEL)
    agent_for(host, job_id).run()
    job = get(host.database, job_id)
    assert (job.status, job.attempts_without_progress) == ("queued", 0)
    assert events(host.database, job_id, "status")[-1].data == {"status": "queued", "reason": "rank_killed"}
    agent_for(host, job_id).run()
    assert get(host.database, job_id).status == "succeeded"
    assert events(host.database, job_id, "stage")[1].data["first_step"] == 20


MODEL = {
    "model.onnx": "onnx",
    "encoder.pt": "weights",
    "model.json": MODEL_JSON,
}


@pytest.mark.parametrize(("end", "num_kept"), [("exit", 2), ("succeed", 1)])
def test_storage_keeps_the_newest_checkpoints(host: Host, end: str, num_kept: int) -> None:
    """Two, of a job that succeeded one: rows and files agree, and each stored file is the one that was written."""
    job_id = pretrain(host, steps=60, pause=0.03, checkpoint_every=5, output=MODEL, end=end)
    agent_for(host, job_id).run()
    with host.database.transaction() as session:
        rows = session.scalars(select(Checkpoint).order_by(Checkpoint.step)).all()
    assert len(rows) == num_kept
    assert rows[-1].step == 60
    folder = Path(host.settings.storage_dir) / f"jobs/{job_id}/checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == sorted(Path(row.key).name for row in rows)
    for row in rows:
        assert sha256_of(host.storage.fetch(row.key, Path())) == row.sha256


def test_a_damaged_checkpoint_falls_back_to_the_older_one(host: Host) -> None:
    """A warning names the step, and the process goes on from the one before."""
    job_id = pretrain(host, steps=9, output=MODEL)
    with host.database.transaction() as session:
        for step in (3, 6):
            content = f"{step:1000d}".encode()
            host.storage.put(f"c{step}", content)
            path = host.storage.fetch(f"c{step}", Path())
            row = Checkpoint(job_id=job_id, step=step, attempt=0, key=f"c{step}", sha256=sha256_of(path))
            row.num_bytes = len(content)
            session.add(row)
    host.storage.put("c6", b"damaged")
    agent_for(host, job_id).run()
    assert events(host.database, job_id, "stage")[0].data["first_step"] == 3
    (warning,) = events(host.database, job_id, "warning")
    assert (warning.data["code"], warning.data["step"]) == ("corrupt_checkpoint", 6)


@pytest.mark.parametrize(
    ("recipe", "code", "message"),
    [
        ({"end": "exit"}, "crashed", "exit code 3:\nthe last line"),
        (
            {"end": "fail", "error": {"code": "non_finite_loss", "message": "the loss is NaN"}},
            "non_finite_loss",
            "the loss is NaN",
        ),
    ],
)
def test_a_failure_says_why(host: Host, recipe: dict[str, object], code: str, message: str) -> None:
    """The process's own error, or the end of its log, is the job's error; it is not tried again."""
    job_id = index(host, **recipe)
    agent_for(host, job_id).run()
    job = get(host.database, job_id)
    assert job.status == "failed"
    assert job.error is not None
    assert job.error["code"] == code
    assert job.error["message"].endswith(message)


def test_a_damaged_input_fails_the_job(host: Host) -> None:
    """A file of the data set whose sha256 is another than stored is never given to a process."""
    host.storage.put("pixels", b"bits")
    files = {"pixels.bin": {"key": "pixels", "sha256": "0" * 64, "num_bytes": 4}}
    job_id = submit(host.database, "pretrain", dataset_id=add_dataset(host.database, files=files))
    agent_for(host, job_id).run()
    error = get(host.database, job_id).error
    assert error is not None
    assert error["code"] == "corrupt_file"


def test_a_stale_or_doubled_message_is_dropped(host: Host) -> None:
    """A wrong token starts nothing; the right one works once."""
    job_id = index(host)
    agent = agent_for(host, job_id)
    Agent(host, job_id, 1, "stale").run()
    assert get(host.database, job_id).status == "running"
    agent.run()
    Agent(host, job_id, 1, agent.lease.token).run()
    assert statuses(host.database, job_id) == ["queued", "running", "succeeded"]


def test_an_agent_whose_attempt_was_taken_away_kills_its_process_and_writes_nothing(host: Host, tmp_path: Path) -> None:
    """After the job is given to a second attempt, the first one's process dies and its events stop."""
    pids = tmp_path / "pids"
    job_id = index(host, steps=1000, pause=0.02, pids=str(pids))
    with running(agent_for(host, job_id)) as thread:
        wait_until(pids.exists)
        with host.database.transaction() as session:
            jobs.requeue(session, jobs.hold(session, job_id, 1), "node_lost")
        num_events = len(events(host.database, job_id))
        thread.join(timeout=3)
        assert not thread.is_alive()
    assert_gone(pids)
    assert len(events(host.database, job_id)) == num_events
    assert get(host.database, job_id).status == "queued"


def test_the_process_survives_a_database_that_is_away_for_less_than_the_lease(host: Host) -> None:
    """Each of the agent's connections is cut three times; the job still ends in its first attempt."""
    job_id = index(host, steps=60, pause=0.02)
    cut = text(
        "select count(pg_terminate_backend(pid)) from pg_stat_activity"
        " where pid <> pg_backend_pid() and datname = current_database()"
    )
    other = Database(host.settings.database_url)
    with running(agent_for(host, job_id)) as thread:
        for step in (5, 20, 40):
            wait_until(partial(reached, host, job_id, step))
            with other.transaction() as session:
                session.execute(cut)
        thread.join(timeout=10)
    other.close()
    job = get(host.database, job_id)
    assert (job.status, job.attempt) == ("succeeded", 1)
    assert [e.data["step"] for e in events(host.database, job_id, "metrics")] == list(range(1, 61))


def reached(host: Host, job_id: str, step: int) -> bool:
    """Whether the job's progress is at that step."""
    return bool((get(host.database, job_id).progress or {"step": 0})["step"] >= step)


def test_a_process_does_not_outlive_its_lease(host: Host, tmp_path: Path) -> None:
    """A database that never answers (here: a row that someone else keeps locked) costs the attempt its process."""
    pids = tmp_path / "pids"
    job_id = index(host, steps=1000, pause=0.02, pids=str(pids))
    with running(agent_for(host, job_id)) as thread:
        wait_until(pids.exists)
        with host.database.transaction() as session:
            jobs.hold(session, job_id, 1)
            wait_until(lambda: not any(map(is_alive, pids_in(pids))), seconds=host.settings.lease_seconds + 1.5)
            thread.join(timeout=2)
            assert not thread.is_alive()


def test_the_lease_is_renewed_while_the_process_is_silent(host: Host) -> None:
    """A process without events for one and a half leases keeps its placement."""
    job_id = index(host, end="hang")
    with running(agent_for(host, job_id)):
        wait_until(lambda: events(host.database, job_id, "metrics"))
        with host.database.transaction() as session:
            first = session.scalar(select(Placement.lease_until))
        wait_until(lambda: lease_is_after(host, first, 1.5 * host.settings.lease_seconds))


def lease_is_after(host: Host, first: object, seconds: float) -> bool:
    """Whether the only placement's lease ends that much after `first`, and isn't over."""
    with host.database.transaction() as session:
        later = func.extract("epoch", Placement.lease_until - first) >= seconds
        assert session.scalar(select(Placement.lease_until > func.now()))
        return bool(session.scalar(select(later)))
