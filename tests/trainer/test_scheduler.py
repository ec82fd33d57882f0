"""Placement in the order of the queue, leases, the leader's lock, and a broker that is away."""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection, func, select, text, update
from sqlalchemy.exc import OperationalError

from service.core import jobs
from service.core.db import Database
from service.core.queue import RUN_PLACEMENT, celery_app, node_queue
from service.core.tables import Node, Placement
from tests.trainer.job_plane import (
    LEASE_SECONDS,
    add_node,
    events,
    get,
    make_settings,
    place,
    statuses,
    submit,
    wait_until,
)
from trainer import placement
from trainer.host import open_host
from trainer.scheduler import Scheduler


def placed(database: Database) -> list[tuple[str, str, str]]:
    """(job, node, slot) of the open placements after one round of placing."""
    return [(row.job_id, row.node_name, row.slot) for row in place(database)]


def expire(database: Database, max_attempts: int = 3) -> None:
    """One round of taking back."""
    with database.transaction() as session:
        placement.expire_leases(session, lease_seconds=LEASE_SECONDS, max_attempts=max_attempts)


def age(database: Database, **columns: float) -> None:
    """Set instants of all placements to so many seconds ago."""
    values = {name: func.now() - placement.seconds(seconds) for name, seconds in columns.items()}
    with database.transaction() as session:
        session.execute(update(Placement).values(**values))


def silence(database: Database, node_name: str) -> None:
    """Let a node's heartbeat be older than the lease."""
    with database.transaction() as session:
        session.get_one(Node, node_name).heartbeat_at = func.now() - placement.seconds(2 * LEASE_SECONDS)


def test_jobs_start_in_the_order_of_the_queue(database: Database) -> None:
    """With one free slot the oldest of three starts; the next when it has ended."""
    ids = [submit(database, "pretrain") for _ in range(3)]
    add_node(database)
    assert placed(database) == [(ids[0], "node-a", "cpu")]
    assert [get(database, job_id).status for job_id in ids] == ["running", "queued", "queued"]
    with database.transaction() as session:
        jobs.fail(session, jobs.hold(session, ids[0], 1), "crashed", "x")
    assert placed(database) == [(ids[1], "node-a", "cpu")]


def test_a_job_that_is_given_back_keeps_its_place(database: Database) -> None:
    """The first job runs again before the second."""
    ids = [submit(database, "pretrain") for _ in range(2)]
    add_node(database)
    place(database)
    with database.transaction() as session:
        jobs.requeue(session, jobs.hold(session, ids[0], 1), "worker_stopped")
    assert placed(database) == [(ids[0], "node-a", "cpu")]


def test_light_jobs_do_not_wait_for_training(database: Database) -> None:
    """An ingest job behind two pretraining jobs starts at once in a slot of its own kind."""
    first, _, ingest = submit(database, "pretrain"), submit(database, "pretrain"), submit(database, "ingest")
    add_node(database)
    assert sorted(placed(database)) == sorted([(first, "node-a", "cpu"), (ingest, "node-a", "light")])


def test_jobs_spread_over_the_nodes(database: Database) -> None:
    """Two nodes with two slots each get two of four jobs each, and never more."""
    for _ in range(5):
        submit(database, "pretrain")
    add_node(database, "node-a", cpu=2)
    add_node(database, "node-b", cpu=2)
    assert sorted(node for _, node, _ in placed(database)) == ["node-a", "node-a", "node-b", "node-b"]


def test_the_device_decides_the_slot(database: Database) -> None:
    """`auto` takes a GPU where a node has one; `cpu` stays on the CPU; `cuda` waits for a GPU."""
    auto, cpu, cuda = (submit(database, "pretrain", resources={"device": device}) for device in ("auto", "cpu", "cuda"))
    add_node(database, "node-a", cpu=1)
    assert placed(database) == [(auto, "node-a", "cpu")]
    with database.transaction() as session:
        jobs.requeue(session, jobs.hold(session, auto, 1), "worker_stopped")
    add_node(database, "node-b", cpu=0, cuda=2)
    expected = [(auto, "node-b", "cuda"), (cpu, "node-a", "cpu"), (cuda, "node-b", "cuda")]
    assert sorted(placed(database)) == sorted(expected)


def test_nothing_is_placed_on_a_silent_node(database: Database) -> None:
    """A node whose heartbeat is older than the lease gets no job."""
    submit(database, "pretrain")
    add_node(database)
    silence(database, "node-a")
    assert placed(database) == []


def test_a_silent_agent_loses_its_job(database: Database) -> None:
    """After the lease the job is queued with the reason, its slot is free, and it counts as an attempt."""
    job_id = submit(database, "pretrain")
    add_node(database)
    place(database)
    age(database, claimed_at=10, lease_until=0.1)
    expire(database)
    job = get(database, job_id)
    assert (job.status, job.attempts_without_progress) == ("queued", 1)
    assert events(database, job_id)[-1].data == {"status": "queued", "reason": "node_lost"}
    assert placed(database) == [(job_id, "node-a", "cpu")]
    assert get(database, job_id).attempt == 2


def test_a_lease_that_holds_is_left_alone(database: Database) -> None:
    """A claimed placement with time left stays, even if its node's heartbeat is late."""
    job_id = submit(database, "pretrain")
    add_node(database)
    place(database)
    age(database, claimed_at=10)
    silence(database, "node-a")
    expire(database)
    assert get(database, job_id).status == "running"


def test_a_job_that_was_to_be_cancelled_is_cancelled_when_its_agent_is_gone(database: Database) -> None:
    """It isn't run again."""
    job_id = submit(database, "pretrain")
    add_node(database)
    place(database)
    age(database, claimed_at=10, lease_until=0.1)
    with database.transaction() as session:
        jobs.request_cancel(session, job_id)
    expire(database)
    assert statuses(database, job_id) == ["queued", "running", "cancelling", "cancelled"]


def test_a_job_placed_on_a_node_that_died_is_placed_elsewhere(database: Database) -> None:
    """Nobody claimed it, so it isn't held against the job."""
    job_id = submit(database, "pretrain")
    add_node(database, "node-a")
    place(database)
    silence(database, "node-a")
    add_node(database, "node-b")
    expire(database)
    assert get(database, job_id).attempts_without_progress == 0
    assert placed(database) == [(job_id, "node-b", "cpu")]


def test_an_unanswered_message_is_sent_again_with_a_new_token(database: Database) -> None:
    """The first token is worthless then; a message that is younger is left alone."""
    submit(database, "pretrain")
    add_node(database)
    (first,) = place(database)
    for seconds, is_renewed in ((29, False), (31, True)):
        age(database, sent_at=seconds)
        with database.transaction() as session:
            placement.renew_unclaimed_tokens(session)
            unsent = placement.unsent(session)
        assert bool(unsent) is is_renewed
    assert unsent[0].token != first.token
    with pytest.raises(jobs.Fenced), database.transaction() as session:
        placement.claim(session, first.job_id, 1, first.token, lease_seconds=LEASE_SECONDS)


@contextmanager
def leading(scheduler: Scheduler) -> Iterator[threading.Thread]:
    """A scheduler at work."""
    stopping = threading.Event()
    thread = threading.Thread(target=scheduler.run, args=(stopping,))
    thread.start()
    try:
        yield thread
    finally:
        stopping.set()
        thread.join(timeout=10)
        assert not thread.is_alive()


def make_scheduler(database: Database, folder: Path, redis_url: str) -> Scheduler:
    """A scheduler on a broker."""
    settings = make_settings(folder, "", redis_url)
    return Scheduler(database.engine, celery_app(settings), settings)


def test_the_node_is_told_through_its_queue(database: Database, tmp_path: Path, redis_url: str) -> None:
    """The message carries job, attempt and token, and nothing else."""
    add_node(database, "node-told")
    job_id = submit(database, "pretrain")
    scheduler = make_scheduler(database, tmp_path, redis_url)
    with leading(scheduler):
        wait_until(lambda: sent(database) == [True])
    with scheduler.app.connection_for_read() as connection:
        queue = connection.SimpleQueue(node_queue("node-told"))
        message = queue.get(timeout=5)
        message.ack()
        queue.close()
    with database.transaction() as session:
        token = session.scalar(select(Placement.token))
    assert message.headers["task"] == RUN_PLACEMENT
    assert message.payload[0] == [job_id, 1, token]
    scheduler.app.close()


def sent(database: Database) -> list[bool]:
    """Whether each placement's message was sent."""
    with database.transaction() as session:
        return list(session.scalars(select(Placement.sent_at.is_not(None))))


def test_a_broker_that_is_away_delays_the_message_and_nothing_else(
    database: Database, tmp_path: Path, redis_url: str
) -> None:
    """Jobs are placed and leases expire as ever, and the message follows when the broker is back."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nowhere = f"redis://127.0.0.1:{unused.getsockname()[1]}/0"
    add_node(database, "node-away")
    job_id = submit(database, "pretrain")
    away = make_scheduler(database, tmp_path, nowhere)
    with leading(away):
        wait_until(lambda: get(database, job_id).status == "running")
        age(database, claimed_at=10, lease_until=0.1)
        wait_until(lambda: get(database, job_id).attempt == 2)
        assert not any(sent(database))
    back = make_scheduler(database, tmp_path, redis_url)
    with leading(back):
        wait_until(lambda: sorted(sent(database)) == [False, True])
    for scheduler in (away, back):
        scheduler.app.close()


def test_one_scheduler_leads_and_another_follows_it(
    database: Database, tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two candidates one works; when it stops, the other goes on."""
    monkeypatch.setattr("trainer.scheduler.RETRY_SECONDS", 0.1)
    first, second = (make_scheduler(database, tmp_path, redis_url) for _ in range(2))
    ticks: list[Scheduler] = []
    for scheduler in (first, second):
        monkeypatch.setattr(scheduler, "tick", lambda _, who=scheduler: ticks.append(who))
    with ExitStack() as after_first:
        with leading(first):
            wait_until(lambda: ticks)
            after_first.enter_context(leading(second))
            wait_until(lambda: len(ticks) >= 6)
            assert set(ticks) == {first}
        wait_until(lambda: second in ticks)


def test_a_leader_whose_connection_is_cut_loses_the_lock_and_stands_again(
    database: Database, tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs are placed again soon after the database has dropped all connections."""
    monkeypatch.setattr("trainer.scheduler.RETRY_SECONDS", 0.1)
    scheduler = make_scheduler(database, tmp_path, redis_url)
    with leading(scheduler):
        add_node(database)
        job_id = submit(database, "pretrain")
        wait_until(lambda: get(database, job_id).status == "running")
        with database.transaction() as session:
            others = "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory'"
            session.execute(text(others))
        light = submit(database, "index")
        wait_until(lambda: get(database, light).status == "running")
    scheduler.app.close()


@pytest.mark.parametrize("statement", [None, "select 1", "select * from job for update"])
def test_a_leader_that_is_frozen_is_followed_by_another(
    database: Database, tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch, statement: str | None
) -> None:
    """It holds the lock and does nothing for longer than a lease: the other one leads, and places what waits.

    Also when it is frozen within a transaction, which may have locked the job.
    """
    monkeypatch.setattr("trainer.scheduler.RETRY_SECONDS", 0.1)
    frozen, other = (make_scheduler(database, tmp_path, redis_url) for _ in range(2))
    freezes, thaws = threading.Event(), threading.Event()

    def freeze(connection: Connection) -> None:
        if statement:
            connection.execute(text(statement))
        freezes.set()
        thaws.wait(30)
        connection.rollback()

    def is_placed() -> bool:
        add_node(database)  # its heartbeat goes on
        return get(database, job_id).status == "running"

    monkeypatch.setattr(frozen, "tick", freeze)
    job_id = submit(database, "pretrain")
    with leading(frozen):
        assert freezes.wait(10)
        with leading(other):
            try:
                wait_until(is_placed, seconds=LEASE_SECONDS + 5)
            finally:
                thaws.set()
    other.app.close()


def test_the_job_of_a_worker_that_is_frozen_amid_a_transaction_is_placed_again(
    database: Database, tmp_path: Path, postgres_url: str
) -> None:
    """It has locked the job's row, for no longer than its lease."""
    host = open_host(make_settings(tmp_path, postgres_url))
    add_node(database)
    job_id = submit(database, "pretrain")
    place(database)
    age(database, claimed_at=1, lease_until=1)

    def is_taken_back() -> bool:
        expire(database)
        return get(database, job_id).status == "queued"

    def freeze_and_thaw() -> None:
        with host.database.transaction() as session:
            jobs.hold(session, job_id, 1)
            assert not is_taken_back()
            wait_until(is_taken_back, seconds=LEASE_SECONDS + 5)
            session.execute(text("select 1"))

    with closing(host.database):
        with pytest.raises(OperationalError):  # as if the database had been away
            freeze_and_thaw()
        with host.database.transaction() as session:
            session.execute(text("select 1"))
