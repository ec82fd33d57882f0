"""Two nodes run one job: agents that speak for it together, and end together. Their processes are fake."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import select

from service.core import jobs
from service.core.db import Database
from service.core.storage import LocalStorage
from service.core.tables import Checkpoint, Placement
from tests.trainer.job_plane import (
    FAKES,
    MODEL_JSON,
    add_dataset,
    add_node,
    assert_gone,
    events,
    get,
    is_alive,
    make_settings,
    pids_in,
    place,
    statuses,
    submit,
    wait_until,
)
from trainer import placement
from trainer.agent import Agent
from trainer.devices import DevicePool
from trainer.files import NodeFiles
from trainer.host import Host
from trainer.outcome import Failed, Interrupted, Lost
from trainer.run import PEER_GONE

CAUSE_SECONDS = 0.5

MODEL = {
    "model.onnx": "onnx",
    "encoder.pt": "weights",
    "model.json": MODEL_JSON,
}


@pytest.fixture
def hosts(tmp_path: Path, postgres_url: str, database: Database, storage: LocalStorage) -> dict[str, Host]:
    """Two hosts with one data_dir."""
    cache = tmp_path / "cache"
    cache.mkdir()
    settings = make_settings(tmp_path, postgres_url)
    return {
        name: Host(
            settings.model_copy(update={"node_name": name}),
            database,
            storage,
            NodeFiles(storage, cache),
            DevicePool([]),
            FAKES,
        )
        for name in ("node-a", "node-b")
    }


def gang(database: Database, each: int = 1, **recipe: object) -> str:
    """A pretraining job on two nodes."""
    resources = {"nodes": {"min": 2, "max": 2}, "processes_per_node": each}
    return submit(database, "pretrain", dataset_id=add_dataset(database), resources=resources, recipe=recipe)


@contextmanager
def attempt(hosts: dict[str, Host], each: int = 1) -> Iterator[Callable[[], bool]]:
    """The job's next attempt, an agent a node; whether all have ended."""
    database = hosts["node-a"].database
    for name in hosts:
        add_node(database, name, cpu=each)
    rows = place(database)
    assert len(rows) == 2
    agents = [Agent(hosts[row.node_name], row.job_id, row.attempt, row.token) for row in rows]
    threads = [threading.Thread(target=agent.run) for agent in agents]
    for thread in threads:
        thread.start()
    try:
        yield lambda: not any(thread.is_alive() for thread in threads)
    finally:
        for host in hosts.values():
            host.stopping.set()
        for thread in threads:
            thread.join(timeout=20)
        for host in hosts.values():
            host.stopping.clear()
        assert not any(thread.is_alive() for thread in threads)


def run(hosts: dict[str, Host], each: int = 1) -> None:
    """An attempt from begin to end."""
    with attempt(hosts, each) as is_over:
        wait_until(is_over)


def reasons(database: Database, job_id: str) -> list[str | None]:
    """Why the job was queued, each time."""
    found = (event.data for event in events(database, job_id, "status"))
    return [data.get("reason") for data in found if data["status"] == "queued"]


def test_a_gang_runs_to_one_result(hosts: dict[str, Host], database: Database, storage: LocalStorage) -> None:
    """Four ranks on two nodes that meet at the first: events once, one model, both logs, no folder left."""
    job_id = gang(database, each=2, steps=20, output=MODEL)
    run(hosts, each=2)
    assert statuses(database, job_id) == ["queued", "running", "succeeded"]
    assert [event.data["step"] for event in events(database, job_id, "metrics")] == list(range(1, 21))
    (stage,) = events(database, job_id, "stage")
    assert stage.data["world"] == {
        "WORLD_SIZE": "4",
        "MASTER_ADDR": "::1",
        "MASTER_PORT": "29500",
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
    }
    assert storage.get(jobs.log_key(job_id, 1, 0)) == b"the last line\n" * 2
    assert storage.get(jobs.log_key(job_id, 1, 1)) == b"the last line\n" * 2
    runs = hosts["node-a"].settings.data_dir / "runs"
    assert list(runs.glob("*/*/*")) == []
    with database.transaction() as session:
        assert session.scalars(select(Placement).where(Placement.ended_at.is_(None))).all() == []


def test_a_rank_that_is_killed_ends_the_attempt_on_all_nodes(
    hosts: dict[str, Host], database: Database, tmp_path: Path
) -> None:
    """The reason is stored, the ranks of the other node are gone, and the next attempt goes on from the checkpoint."""
    recipe = {"checkpoint_every": 5, "die_once": str(tmp_path / "died"), "die_rank": 1, "pids": str(tmp_path / "pids")}
    job_id = gang(database, steps=60, pause=0.05, output=MODEL, **recipe)
    run(hosts)
    assert reasons(database, job_id) == [None, "rank_killed"]
    assert_gone(tmp_path / "pids")
    assert_gone(tmp_path / "pids.1")
    run(hosts)
    assert get(database, job_id).status == "succeeded"
    assert events(database, job_id, "stage")[1].data["first_step"] >= 5


@pytest.mark.parametrize(("codes", "died", "reason"), [
    ({"0": PEER_GONE}, True, "rank_killed"),
    ({"0": PEER_GONE, "1": PEER_GONE}, False, "node_lost"),
])  # fmt: skip
def test_the_node_where_it_began_says_why(
    hosts: dict[str, Host], database: Database, tmp_path: Path, codes: dict[str, int], *, died: bool, reason: str
) -> None:
    """A rank that lost its peer is no reason while another agent may have one; after a while it is all there is."""
    recipe: dict[str, object] = {"codes": codes, "die_rank": 1, "die_once": str(tmp_path / "died")}
    if not died:
        (tmp_path / "died").touch()
    job_id = gang(database, steps=10, pause=0.05, **recipe)
    run(hosts)
    assert reasons(database, job_id) == [None, reason]


def test_a_cancel_kills_all_ranks_before_the_job_is_cancelled(
    hosts: dict[str, Host], database: Database, tmp_path: Path
) -> None:
    """Within three seconds, though they ignore SIGTERM; when the status says so, none is left."""
    paths = [tmp_path / "pids", tmp_path / "pids.1"]
    job_id = gang(database, end="hang", stubborn=True, pids=str(paths[0]))
    with attempt(hosts):
        wait_until(lambda: all(path.exists() for path in paths))
        with database.transaction() as session:
            jobs.request_cancel(session, job_id)
        wait_until(lambda: get(database, job_id).status == "cancelled", seconds=3)
        assert not any(is_alive(path_pid) for path in paths for path_pid in pids_in(path))
    assert statuses(database, job_id) == ["queued", "running", "cancelling", "cancelled"]


@pytest.mark.parametrize("stopped", ["node-a", "node-b"])
def test_a_worker_that_stops_has_the_whole_gang_checkpoint(
    hosts: dict[str, Host], database: Database, tmp_path: Path, stopped: str
) -> None:
    """Whichever node it is: the ranks agree to stop, the state is stored, and the job is queued without a mark."""
    job_id = gang(database, steps=400, pause=0.02, stop_file=str(tmp_path / "stop"))
    with attempt(hosts) as is_over:
        wait_until(lambda: get(database, job_id).progress)
        hosts[stopped].stopping.set()
        wait_until(is_over, seconds=8)
    job = get(database, job_id)
    assert (job.status, job.attempts_without_progress) == ("queued", 0)
    assert reasons(database, job_id) == [None, "worker_stopped"]
    with database.transaction() as session:
        assert session.scalars(select(Checkpoint.step)).one() > 0


def test_a_gang_that_could_grow_gives_its_nodes_back_after_a_checkpoint(
    hosts: dict[str, Host], database: Database, tmp_path: Path
) -> None:
    """The reason is `more_nodes`, and the state is stored."""
    job_id = gang(database, steps=400, pause=0.02, stop_file=str(tmp_path / "stop"))
    with attempt(hosts) as is_over:
        wait_until(lambda: get(database, job_id).progress)
        with database.transaction() as session:
            jobs.ask_to_yield(session, jobs.hold(session, job_id, 1))
        wait_until(is_over, seconds=8)
    assert reasons(database, job_id) == [None, "more_nodes"]
    with database.transaction() as session:
        assert session.scalars(select(Checkpoint.step)).one() > 0


def test_a_node_that_stops_before_its_ranks_run_gives_the_job_back(
    hosts: dict[str, Host], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ranks of the other node would wait for it for minutes."""
    job_id = gang(database, end="hang")
    hosts["node-b"].stopping.set()
    with attempt(hosts):
        wait_until(lambda: reasons(database, job_id) == [None, "worker_stopped"], seconds=9)


@pytest.fixture
def slow_storage(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """To store a checkpoint takes longer than an agent waits for another one's word."""
    put_file = storage.put_file

    def put_slowly(key: str, source: Path) -> None:
        if "checkpoints" in key:
            time.sleep(2 * CAUSE_SECONDS)
        put_file(key, source)

    monkeypatch.setattr("trainer.agent.CAUSE_SECONDS", CAUSE_SECONDS)
    monkeypatch.setattr(storage, "put_file", put_slowly)


@pytest.mark.usefixtures("slow_storage")
def test_a_failure_is_told_though_a_checkpoint_is_still_on_its_way(hosts: dict[str, Host], database: Database) -> None:
    """The rank that diverged says so; another one that only lost it doesn't get ahead, and the state is kept."""
    error = {"code": "non_finite_loss", "message": "the loss is NaN"}
    recipe = {"steps": 6, "checkpoint_every": 5, "end": "fail", "error": error, "codes": {"1": PEER_GONE}}
    job_id = gang(database, pause=0.05, **recipe)
    run(hosts)
    assert statuses(database, job_id) == ["queued", "running", "failed"]
    assert get(database, job_id).error == error
    with database.transaction() as session:
        assert session.scalars(select(Checkpoint.step)).all() == [5]


@pytest.mark.usefixtures("slow_storage")
def test_a_checkpoint_on_its_way_is_stored_before_a_lost_attempt_ends(
    hosts: dict[str, Host], database: Database, tmp_path: Path
) -> None:
    """Another node's rank is killed right after it was written: it is kept, and counts as progress."""
    dies = {"die_once": str(tmp_path / "died"), "die_rank": 1, "written": str(tmp_path / "written")}
    recipe: dict[str, object] = {"steps": 10, "checkpoint_every": 5, **dies}
    job_id = gang(database, pause=0.1, **recipe)
    run(hosts)
    assert reasons(database, job_id) == [None, "rank_killed"]
    assert get(database, job_id).attempts_without_progress == 0
    with database.transaction() as session:
        assert session.scalars(select(Checkpoint.step)).all() == [5]


@pytest.mark.parametrize("can_checkpoint", [False, True])
def test_a_silent_node_is_told_to_the_first_ones_agent(
    hosts: dict[str, Host], database: Database, monkeypatch: pytest.MonkeyPatch, *, can_checkpoint: bool
) -> None:
    """Its ranks end when the other node's lease has run out, and the reason is that node.

    Only its agent may be silent: its ranks can still checkpoint with the others, which then is not waited for.
    """
    monkeypatch.setattr("trainer.agent.NOTICE_SECONDS", 60 if can_checkpoint else 1)
    job_id = gang(database, steps=2000, pause=0.02, stubborn=not can_checkpoint)
    for name in hosts:
        add_node(database, name)
    first, second = sorted(place(database), key=lambda row: row.node_rank)
    agent = Agent(hosts[first.node_name], first.job_id, first.attempt, first.token)
    thread = threading.Thread(target=agent.run)
    thread.start()
    with database.transaction() as session:
        placement.claim(session, job_id, 1, second.token, lease_seconds=0)
    wait_until(lambda: get(database, job_id).progress)
    with database.transaction() as session:
        placement.expire_leases(session, lease_seconds=2, max_attempts=3)
    assert get(database, job_id).status == "running"
    thread.join(timeout=15)
    assert reasons(database, job_id) == [None, "node_lost"]
    with database.transaction() as session:
        assert len(session.scalars(select(Checkpoint.step)).all()) == int(can_checkpoint)


def test_a_job_is_not_cancelled_before_its_last_node_has_left(hosts: dict[str, Host], database: Database) -> None:
    """Whatever else became of the attempt: the first node's agent leaves too, and does not end it for the others."""
    job_id = gang(database, steps=1)
    for name in hosts:
        add_node(database, name)
    first, second = sorted(place(database), key=lambda row: row.node_rank)
    with database.transaction() as session:
        placement.claim(session, job_id, 1, second.token, lease_seconds=60)
    agent = Agent(hosts[first.node_name], first.job_id, first.attempt, first.token)
    _, claimed = agent.lease.claim()
    with database.transaction() as session:
        jobs.request_cancel(session, job_id)
    for outcome in (Lost("rank_killed", "x"), Failed("crashed", "x"), Interrupted()):
        with database.transaction() as session:
            assert agent._end(session, outcome, claimed).status == "cancelling"
    with database.transaction() as session:
        assert jobs.leave(session, jobs.hold(session, job_id, 1), second.token).status == "cancelled"
