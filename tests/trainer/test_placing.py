"""Gangs: all nodes or none, nothing starves, fewer nodes down to min, more when they come."""

from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from service.core import jobs
from service.core.db import Database
from service.core.tables import Job, Node, Placement
from tests.trainer.job_plane import LEASE_SECONDS, add_node, events, get, place, submit
from trainer import placement, placing

GROWTH_SECONDS = 30


def gang(database: Database, least: int, most: int | None = None, each: int = 1, **recipe: Any) -> str:
    """A pretraining job on several nodes."""
    resources = {"nodes": {"min": least, "max": most or least}, "processes_per_node": each}
    return submit(database, "pretrain", resources=resources, recipe=recipe)


def placed(database: Database) -> dict[str, list[str]]:
    """The nodes of each job that runs, by rank, after one round of placing."""
    place(database)
    return held(database)


def held(database: Database) -> dict[str, list[str]]:
    """The nodes of each job that runs, by rank."""
    found: dict[str, list[str]] = {}
    with database.transaction() as session:
        rows = select(Placement).where(Placement.ended_at.is_(None)).order_by(Placement.job_id, Placement.node_rank)
        for row in session.scalars(rows):
            found.setdefault(row.job_id, []).append(row.node_name)
    return found


def end(database: Database, job_id: str) -> None:
    """The job succeeds."""
    with database.transaction() as session:
        jobs.succeed(session, jobs.hold(session, job_id, get(database, job_id).attempt), {})


def test_a_gang_is_placed_whole(database: Database) -> None:
    """A placement a node, with its rank and a token of its own; they meet at the first node's address and port."""
    for name in ("node-a", "node-b", "node-c"):
        add_node(database, name, cpu=2)
    job_id = gang(database, 2, each=2)
    rows = sorted(place(database), key=lambda row: row.node_rank)
    assert [(row.node_rank, row.node_name, row.num_slots, row.num_nodes) for row in rows] == [
        (0, "node-a", 2, 2),
        (1, "node-b", 2, 2),
    ]
    assert {(row.rendezvous_address, row.rendezvous_port) for row in rows} == {("::1", 29_500)}
    assert len({row.token for row in rows}) == 2
    assert events(database, job_id)[-1].data == {"status": "running", "nodes": ["node-a", "node-b"]}


def test_a_port_is_offered_once(database: Database) -> None:
    """The first node of a gang is the first of none other before its next heartbeat; a job alone needs no port."""
    add_node(database, "node-a", cpu=4)
    first, second, alone = gang(database, 1, each=2), gang(database, 1, each=2), gang(database, 1)
    assert placed(database) == {first: ["node-a"]}
    add_node(database, "node-a", cpu=5)
    assert placed(database) == {first: ["node-a"], second: ["node-a"], alone: ["node-a"]}


def test_two_gangs_never_hold_a_node_each(database: Database) -> None:
    """Of two jobs that want both nodes one runs on both, and the other waits for both."""
    add_node(database, "node-a")
    add_node(database, "node-b")
    first, second = gang(database, 2), gang(database, 2)
    assert placed(database) == {first: ["node-a", "node-b"]}
    end(database, first)
    add_node(database, "node-a")
    assert placed(database) == {second: ["node-a", "node-b"]}


def test_a_gang_that_waits_is_not_passed_on_its_nodes(database: Database) -> None:
    """A free node is kept for it while the other one is busy, though a small job would fit."""
    add_node(database, "node-a")
    busy = gang(database, 1)
    assert placed(database) == {busy: ["node-a"]}
    add_node(database, "node-b")
    waiting, small = gang(database, 2), gang(database, 1)
    assert placed(database) == {busy: ["node-a"]}
    end(database, busy)
    assert placed(database) == {waiting: ["node-b", "node-a"]} or placed(database) == {waiting: ["node-a", "node-b"]}
    assert get(database, small).status == "queued"


def test_a_later_job_may_pass_on_a_node_that_is_no_use_to_the_first(database: Database) -> None:
    """A node of one slot can't take a part of two processes, so a small job behind it starts there."""
    add_node(database, "node-a", cpu=2)
    busy = gang(database, 1, each=2)
    place(database)
    add_node(database, "node-b", cpu=1)
    waiting, small = gang(database, 1, each=2), gang(database, 1)
    assert placed(database) == {busy: ["node-a"], small: ["node-b"]}
    assert get(database, waiting).status == "queued"


def test_nothing_starves_behind_a_stream_of_small_jobs(database: Database) -> None:
    """Three nodes are full of small jobs, more of them wait behind a gang of three: as they end, it is the next."""
    for name in ("node-a", "node-b", "node-c"):
        add_node(database, name)
    small = [gang(database, 1) for _ in range(3)]
    place(database)
    waiting = gang(database, 3)
    later = [gang(database, 1) for _ in range(3)]
    for job_id in small:
        assert waiting not in placed(database)
        end(database, job_id)
    assert list(placed(database)) == [waiting]
    assert {get(database, job_id).status for job_id in later} == {"queued"}


def test_a_gang_runs_on_fewer_nodes_down_to_min(database: Database) -> None:
    """Two of two to three are enough; one isn't."""
    add_node(database, "node-a")
    job_id = gang(database, 2, 3)
    assert placed(database) == {}
    add_node(database, "node-b")
    assert placed(database) == {job_id: ["node-a", "node-b"]}


def test_the_number_of_nodes_divides_the_batch(database: Database) -> None:
    """Of three free nodes a batch of 8 gets two."""
    for name in ("node-a", "node-b", "node-c"):
        add_node(database, name)
    job_id = gang(database, 1, 3, batch_size=8)
    assert placed(database) == {job_id: ["node-a", "node-b"]}


def test_a_job_for_which_no_nodes_are_there_holds_up_nobody_and_says_so(database: Database) -> None:
    """A later job starts; after a while the first one has a warning that names what it needs, once."""
    add_node(database, "node-a", cpu=2)
    impossible, small = gang(database, 1, each=3), gang(database, 1)
    assert placed(database) == {small: ["node-a"]}
    warn(database)
    assert events(database, impossible, "warning") == []
    wait_long(database)
    warn(database)
    warn(database)
    (warning,) = events(database, impossible, "warning")
    assert warning.data["code"] == "no_nodes"
    assert "1 live workers of 3 cpu slots each" in warning.data["message"]


def warn(database: Database) -> None:
    """One look at who waits in vain."""
    with database.transaction() as session:
        placing.warn_of_missing_nodes(session, lease_seconds=LEASE_SECONDS)


def wait_long(database: Database) -> None:
    """Let all jobs have waited for a minute."""
    with database.transaction() as session:
        session.execute(update(Job).values(priority_at=func.now() - placement.seconds(60)))


def test_who_waits_in_vain_is_told_however_busy_the_nodes_are(database: Database) -> None:
    """A job for a GPU where there is none, and a gang whose nodes have no port; one that only waits its turn isn't."""
    add_node(database, "node-a", cpu=2)
    gang(database, 1, each=2)
    place(database)
    turn, cuda = gang(database, 1), submit(database, "pretrain", resources={"device": "cuda"})
    wait_long(database)
    warn(database)
    assert events(database, turn, "warning") == []
    (warning,) = events(database, cuda, "warning")
    assert "1 live workers of 1 cuda slots each" in warning.data["message"]
    no_port = gang(database, 1, each=2)
    wait_long(database)
    warn(database)  # the running gang has the node's port
    (warning,) = events(database, no_port, "warning")
    assert "SIMCLR_RENDEZVOUS_PORTS" in warning.data["message"]


def test_a_long_queue_of_impossible_jobs_holds_up_nobody(database: Database) -> None:
    """250 of them before it, more than are read at once: the one that fits starts."""
    for _ in range(250):
        gang(database, 1, each=2)
    small = gang(database, 1)
    add_node(database, "node-a")  # last: its heartbeat is fresh for two seconds
    assert placed(database) == {small: ["node-a"]}


def test_a_node_that_leaves_while_a_gang_is_placed_on_it_breaks_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its row is gone before the port is taken: the placement stands, and is given back when nobody claims it."""
    add_node(database, "node-a", cpu=2)
    job_id = gang(database, 1, each=2)
    start = jobs.start

    def leave_and_start(session: Session, job: Job, nodes: Sequence[str]) -> Job:
        with database.transaction() as other:
            other.execute(delete(Node))
        return start(session, job, nodes)

    monkeypatch.setattr(jobs, "start", leave_and_start)
    assert placed(database) == {job_id: ["node-a"]}


def test_a_silent_agent_of_a_gang_gives_all_its_nodes_back(database: Database) -> None:
    """One of two leases runs out: the job is queued once, with the reason, and both nodes are free."""
    add_node(database, "node-a")
    add_node(database, "node-b")
    job_id = gang(database, 2)
    place(database)
    with database.transaction() as session:
        session.execute(update(Placement).values(claimed_at=func.now(), lease_until=func.now()))
    with database.transaction() as session:
        placement.expire_leases(session, lease_seconds=LEASE_SECONDS, max_attempts=3)
    assert [event.data.get("reason") for event in events(database, job_id, "status")] == [None, None, "node_lost"]
    assert held(database) == {}


@pytest.fixture
def lonely(database: Database) -> str:
    """A job of one to two nodes that has run on one of them for a minute and has an hour to go."""
    add_node(database, "node-a")
    job_id = gang(database, 1, 2)
    place(database)
    with database.transaction() as session:
        session.execute(update(Placement).values(claimed_at=func.now() - placement.seconds(60)))
        jobs.hold(session, job_id, 1).progress = {"step": 1, "steps": 9, "eta_seconds": 3600}
        jobs.record_event(session, job_id, 1, "metrics", {"step": 1})
    return job_id


def grow(database: Database, job_id: str) -> bool:
    """One look at what could grow; whether the job was asked to."""
    with database.transaction() as session:
        placing.ask_to_grow(session, lease_seconds=LEASE_SECONDS, growth_seconds=GROWTH_SECONDS)
    return get(database, job_id).asked_to_yield


def test_a_job_grows_when_a_node_comes(database: Database, lonely: str) -> None:
    """It is asked to give its node back, and placed on both; asked no more then."""
    assert not grow(database, lonely)
    add_node(database, "node-b")
    assert grow(database, lonely)
    with database.transaction() as session:
        assert jobs.orders(session, lonely, 1) == jobs.Orders.YIELD
        jobs.requeue(session, jobs.hold(session, lonely, 1), "more_nodes")
    add_node(database, "node-a")
    assert sorted(placed(database)[lonely]) == ["node-a", "node-b"]
    assert not get(database, lonely).asked_to_yield
    assert not grow(database, lonely)


def test_one_job_grows_at_a_time(database: Database, lonely: str) -> None:
    """Of two that could use the new node the older one is asked, and the other not before that one is placed."""
    add_node(database, "node-c")
    second = gang(database, 1, 2)
    place(database)
    with database.transaction() as session:
        session.execute(update(Placement).values(claimed_at=func.now() - placement.seconds(60)))
        jobs.hold(session, second, 1).progress = {"step": 1, "steps": 9, "eta_seconds": 3600}
        jobs.record_event(session, second, 1, "metrics", {"step": 1})
    add_node(database, "node-b")
    assert grow(database, lonely)
    assert not grow(database, second)


def test_a_job_grows_past_one_that_can_not_be_placed(database: Database, lonely: str) -> None:
    """A job for which there are no nodes at all waits for others than the new one."""
    gang(database, 1, each=5)
    add_node(database, "node-b")
    assert grow(database, lonely)


def test_a_job_that_does_not_train_yet_is_not_asked_to_grow(database: Database) -> None:
    """What it says of its pace is of an earlier attempt."""
    add_node(database, "node-a")
    job_id = gang(database, 1, 2)
    place(database)
    with database.transaction() as session:
        session.execute(update(Placement).values(claimed_at=func.now() - placement.seconds(60)))
        jobs.hold(session, job_id, 1).progress = {"step": 1, "steps": 9, "eta_seconds": 3600}
    add_node(database, "node-b")
    assert not grow(database, job_id)


def test_a_job_does_not_grow_at_the_expense_of_one_that_waits(database: Database, lonely: str) -> None:
    """The new node is for the queue."""
    add_node(database, "node-b")
    gang(database, 2)
    assert not grow(database, lonely)


@pytest.mark.parametrize(("age", "eta"), [(GROWTH_SECONDS - 1, 3600), (60, GROWTH_SECONDS - 1)])
def test_a_job_grows_only_if_a_restart_pays(database: Database, lonely: str, age: float, eta: float) -> None:
    """Not if it began just now, and not if it is about to end."""
    add_node(database, "node-b")
    with database.transaction() as session:
        session.execute(update(Placement).values(claimed_at=func.now() - placement.seconds(age)))
        jobs.hold(session, lonely, 1).progress = {"step": 1, "steps": 9, "eta_seconds": eta}
    assert not grow(database, lonely)


def test_a_node_without_a_port_is_not_where_a_gang_meets(database: Database) -> None:
    """The other one of two is; with none, the gang waits for the next heartbeat."""
    add_node(database, "node-a")
    add_node(database, "node-b")
    with database.transaction() as session:
        session.execute(update(Node).where(Node.name == "node-a").values(rendezvous_port=None))
    job_id = gang(database, 2)
    assert placed(database) == {job_id: ["node-b", "node-a"]}
