"""The state machine of a job, its idempotency and the order of its events."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import func, select

from service.core import jobs
from service.core.db import Database
from service.core.errors import Conflict, NotFound
from service.core.tables import Checkpoint, Dataset, DatasetRejection, Job, JobEvent, Placement
from tests.service.conftest import add_model


def submit(database: Database, **fields: Any) -> Job:
    """A queued job."""
    with database.transaction() as session:
        return jobs.submit(session, **({"kind": "index", "recipe": {}} | fields))


def running(database: Database, **fields: Any) -> Job:
    """A job in its first attempt."""
    job_id = submit(database, **fields).id
    with database.transaction() as session:
        return jobs.start(session, session.get_one(Job, job_id))


def held(database: Database, job: Job, act: Callable[..., Job], *arguments: Any, **options: Any) -> Job:
    """What a holder of the job's attempt does to it, in a transaction."""
    with database.transaction() as session:
        return act(session, jobs.hold(session, job.id, job.attempt), *arguments, **options)


def statuses(database: Database, job_id: str) -> list[tuple[str, str | None]]:
    """(status, reason) of the job's status events."""
    with database.transaction() as session:
        events = jobs.events_after(session, job_id, 0, 100)
        return [(event.data["status"], event.data.get("reason")) for event in events if event.type == "status"]


def add_dataset(database: Database, status: str = "validating") -> str:
    """The id of a new data set."""
    with database.transaction() as session:
        session.add(
            Dataset(
                id="ds_1", name="d", status=status, on_invalid="reject", archive_name="a", archive_key="k",
                archive_sha256="s",
            )
        )  # fmt: skip
    return "ds_1"


def test_a_hundred_submits_with_one_key_make_one_job(database: Database) -> None:
    """All hundred callers get the same job, which was queued once."""
    start = threading.Barrier(20)

    def post(number: int) -> str:
        if number < 20:
            start.wait()
        return submit(database, idempotency_key="key", request_sha256="same").id

    with ThreadPoolExecutor(20) as pool:
        ids = set(pool.map(post, range(100)))
    assert len(ids) == 1
    with database.transaction() as session:
        assert session.scalar(select(func.count()).select_from(Job)) == 1
        assert session.scalar(select(func.count()).select_from(JobEvent)) == 1


def test_a_key_is_for_one_request(database: Database) -> None:
    """The same key with another request is a conflict that names the reason."""
    submit(database, idempotency_key="key", request_sha256="one")
    with pytest.raises(Conflict) as conflict:
        submit(database, idempotency_key="key", request_sha256="two")
    assert conflict.value.code == "idempotency_mismatch"


def test_jobs_without_a_key_are_all_different(database: Database) -> None:
    """Two equal requests without a key make two jobs."""
    assert submit(database).id != submit(database).id


def test_a_queued_job_is_cancelled_at_once(database: Database) -> None:
    """Nothing runs for it, so it ends in the request itself."""
    job = submit(database)
    with database.transaction() as session:
        assert jobs.request_cancel(session, job.id).status == "cancelled"
    assert statuses(database, job.id) == [("queued", None), ("cancelled", None)]


def test_a_job_that_no_agent_has_claimed_is_cancelled_at_once(database: Database) -> None:
    """Its placement ends with it, so a late message finds nothing to claim."""
    job = running(database)
    add_placement(database, job, claimed=False)
    with database.transaction() as session:
        assert jobs.request_cancel(session, job.id).status == "cancelled"
    with database.transaction() as session:
        assert session.scalar(select(Placement.ended_at)) is not None


def add_placement(database: Database, job: Job, *, claimed: bool, node_rank: int = 0, token: str = "t") -> None:
    """A placement of the job's attempt."""
    with database.transaction() as session:
        session.add(
            Placement(
                job_id=job.id, attempt=job.attempt, node_rank=node_rank, token=token,
                node_name="n", slot="cpu", num_slots=1, lease_until=func.now(),
                claimed_at=func.now() if claimed else None,
            )
        )  # fmt: skip


def test_a_running_job_is_cancelled_by_its_agent(database: Database) -> None:
    """Between the request and the agent's word it is `cancelling`; a second request changes nothing."""
    job = running(database)
    add_placement(database, job, claimed=True)
    for _ in range(2):
        with database.transaction() as session:
            assert jobs.request_cancel(session, job.id).status == "cancelling"
    assert held(database, job, jobs.cancel).status == "cancelled"
    assert [status for status, _ in statuses(database, job.id)] == ["queued", "running", "cancelling", "cancelled"]


@pytest.mark.parametrize(
    "end",
    [lambda session, job: jobs.succeed(session, job, {}), lambda session, job: jobs.fail(session, job, "crashed", "x")],
)
def test_an_ended_job_cannot_be_cancelled(database: Database, end: Callable[..., Job]) -> None:
    """The conflict names the status."""
    job = running(database)
    held(database, job, end)
    with pytest.raises(Conflict, match="has ended"), database.transaction() as session:
        jobs.request_cancel(session, job.id)


def test_unknown_jobs_are_not_found(database: Database) -> None:
    """Cancelling and resuming name the job that isn't there."""
    for act in (jobs.request_cancel, jobs.resume):
        with pytest.raises(NotFound, match="job_x"), database.transaction() as session:
            act(session, "job_x")


def test_an_old_attempt_cannot_write(database: Database) -> None:
    """After a requeue and a new start, the first attempt can neither add events nor end the job."""
    first = running(database)
    with database.transaction() as session:
        queued = jobs.requeue(session, jobs.hold(session, first.id, 1), "node_lost")
        assert jobs.start(session, queued).attempt == 2
    with pytest.raises(jobs.Fenced), database.transaction() as session:
        jobs.record_event(session, first.id, 1, "metrics", {"loss": 1.0})
    with pytest.raises(jobs.Fenced), database.transaction() as session:
        jobs.hold(session, first.id, 1)
    with pytest.raises(jobs.Fenced), database.transaction() as session:
        jobs.orders(session, first.id, 1)
    with database.transaction() as session:
        assert jobs.orders(session, first.id, 2) == jobs.Orders.GO_ON


def test_a_job_ends_once(database: Database) -> None:
    """Of eight agents that end the same attempt at the same time, one does."""
    job = running(database)
    start = threading.Barrier(8)

    def end(_: int) -> bool:
        start.wait()
        try:
            held(database, job, jobs.succeed, {})
        except jobs.Fenced:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(end, range(8))) == 1
    assert [status for status, _ in statuses(database, job.id)] == ["queued", "running", "succeeded"]


def test_the_third_attempt_without_progress_fails_the_job(database: Database) -> None:
    """It is queued again twice at its old place, then failed with the last reason."""
    job = running(database)
    for attempt in (1, 2, 3):
        lost = held(database, job, jobs.lose, "rank_killed", "killed", max_attempts=3)
        if attempt < 3:
            assert lost.status == "queued"
            assert lost.priority_at == job.priority_at
            with database.transaction() as session:
                job = jobs.start(session, session.get_one(Job, job.id))
    assert lost.status == "failed"
    assert lost.error == {"code": "rank_killed", "message": "killed (3 attempts without progress)"}
    assert lost.finished_at is not None


def test_a_checkpoint_begins_a_new_count_of_attempts(database: Database) -> None:
    """An attempt that left a checkpoint doesn't count, nor do those before it."""
    job = running(database)
    held(database, job, jobs.lose, "rank_killed", "killed", max_attempts=2)
    with database.transaction() as session:
        job = jobs.start(session, session.get_one(Job, job.id))
        session.add(Checkpoint(job_id=job.id, step=5, attempt=2, key="k", sha256="s", num_bytes=1))
    lost = held(database, job, jobs.lose, "rank_killed", "killed", max_attempts=2)
    assert (lost.status, lost.attempts_without_progress) == ("queued", 0)


@pytest.mark.parametrize(("step", "expected"), [(0, 2), (8, 0)])
def test_written_vectors_begin_a_new_count_of_attempts(database: Database, step: int, expected: int) -> None:
    """The next attempt of an index job goes on from them; one that has written none counts."""
    job = running(database)
    held(database, job, jobs.lose, "dependency_away", "away", max_attempts=3)
    with database.transaction() as session:
        job = jobs.start(session, session.get_one(Job, job.id))
        jobs.record_event(session, job.id, job.attempt, "metrics", {"step": step, "steps": 100})
    lost = held(database, job, jobs.lose, "dependency_away", "away", max_attempts=3)
    assert lost.attempts_without_progress == expected


@pytest.mark.parametrize(
    "end",
    [
        lambda session, job: jobs.fail(session, job, "crashed", "x"),
        lambda session, job: jobs.requeue(session, job, "worker_stopped"),
        lambda session, job: jobs.lose(session, job, "node_lost", "x", max_attempts=3),
    ],
)
def test_a_cancel_wins_over_any_other_end_but_success(database: Database, end: Callable[..., Job]) -> None:
    """A job that breaks while it is cancelled is cancelled, not failed and not run again."""
    job = running(database)
    add_placement(database, job, claimed=True)
    with database.transaction() as session:
        jobs.request_cancel(session, job.id)
    assert held(database, job, end).status == "cancelled"


def test_a_failed_ingest_fails_its_data_set_and_a_resume_takes_it_back(database: Database) -> None:
    """The data set shares the error of its job, and is validating again when the job is resumed."""
    dataset_id = add_dataset(database)
    job = running(database, kind="ingest", dataset_id=dataset_id)
    held(database, job, jobs.fail, "no_images", "the archive has no image")
    with database.transaction() as session:
        dataset = session.get_one(Dataset, dataset_id)
        assert (dataset.status, dataset.error) == (
            "failed",
            {"code": "no_images", "message": "the archive has no image"},
        )
        resumed = jobs.resume(session, job.id)
        assert (resumed.status, resumed.error, resumed.finished_at) == ("queued", None, None)
        session.refresh(dataset)
        assert (dataset.status, dataset.error) == ("validating", None)


def test_only_a_failed_or_cancelled_job_whose_input_is_there_can_be_resumed(database: Database) -> None:
    """A queued job is a conflict; so is a failed one whose model was deleted."""
    job = submit(database)
    with pytest.raises(Conflict, match="is queued"), database.transaction() as session:
        jobs.resume(session, job.id)
    with database.transaction() as session:
        jobs.request_cancel(session, job.id)
    with pytest.raises(Conflict, match="was deleted"), database.transaction() as session:
        jobs.resume(session, job.id)


@pytest.mark.parametrize(
    ("kind", "has", "can_resume"),
    [
        ("index", {"model"}, True),
        ("map", {"model"}, True),
        ("pretrain", {"dataset"}, True),
        ("ingest", {"dataset"}, True),
        ("ablation", {"dataset"}, True),
        ("linear_probe", {"dataset", "model"}, True),
        ("pretrain", set(), False),
        ("linear_probe", {"model"}, False),
        ("linear_probe", {"dataset"}, False),
        ("export", {"dataset"}, False),
    ],
)
def test_what_a_job_needs_has_to_be_there_when_it_is_resumed(
    database: Database, kind: str, has: set[str], *, can_resume: bool
) -> None:
    """A job of the index or a map has no data set, pretraining and its like have no model, the others have both."""
    dataset_id = add_dataset(database, "ready") if "dataset" in has else None
    with database.transaction() as session:
        model_id = add_model(session).id if "model" in has else None
    job = running(database, kind=kind, dataset_id=dataset_id, model_id=model_id)
    held(database, job, jobs.fail, "broken", "it broke")
    with database.transaction() as session:
        if can_resume:
            assert jobs.resume(session, job.id).status == "queued"
        else:
            with pytest.raises(Conflict, match="was deleted"):
                jobs.resume(session, job.id)


def test_a_resumed_job_has_all_its_attempts_again(database: Database) -> None:
    """Those without progress are counted from the resume on."""
    dataset_id = add_dataset(database, "ready")
    job = running(database, kind="pretrain", dataset_id=dataset_id)
    held(database, job, jobs.lose, "rank_killed", "killed", max_attempts=3)
    with database.transaction() as session:
        again = jobs.start(session, session.get_one(Job, job.id))
    held(database, again, jobs.fail, "broken", "it broke")
    with database.transaction() as session:
        assert session.get_one(Job, job.id).attempts_without_progress == 1
        assert jobs.resume(session, job.id).attempts_without_progress == 0


def test_a_job_that_is_given_back_says_why(database: Database) -> None:
    """The reason is in its event."""
    job = running(database)
    held(database, job, jobs.requeue, "worker_stopped")
    assert statuses(database, job.id)[-1] == ("queued", "worker_stopped")


def test_a_cancelled_gang_ends_with_the_last_node_that_leaves(database: Database) -> None:
    """Until then some of its processes may run."""
    job = running(database)
    for rank in (0, 1):
        add_placement(database, job, claimed=True, node_rank=rank, token=f"t{rank}")
    with database.transaction() as session:
        jobs.request_cancel(session, job.id)
    assert held(database, job, jobs.leave, "t0").status == "cancelling"
    assert held(database, job, jobs.leave, "t1").status == "cancelled"


def test_a_cancelled_ablation_takes_its_unfinished_parts_along(database: Database) -> None:
    """Those that have ended stay as they are."""
    ablation = running(database, kind="ablation")
    ended, waiting = (submit(database, parent_id=ablation.id).id for _ in range(2))
    with database.transaction() as session:
        jobs.request_cancel(session, ended)
        jobs.request_cancel(session, ablation.id)
        assert session.get_one(Job, waiting).status == "cancelled"
    assert len(statuses(database, ended)) == 2


def test_a_reader_of_events_misses_none_while_many_write(database: Database) -> None:
    """Following the last id seen gives every event of eight concurrent writers once, in the order of ids."""
    job = running(database)
    num_writers, num_each = 8, 25

    def write(writer: int) -> None:
        for i in range(num_each):
            with database.transaction() as session:
                jobs.record_event(session, job.id, 1, "metrics", {"writer": writer, "i": i})

    seen: list[JobEvent] = []
    with ThreadPoolExecutor(num_writers) as pool:
        writers = [pool.submit(write, writer) for writer in range(num_writers)]
        while True:
            are_done = all(writer.done() for writer in writers)  # before it looks: the last may end in between
            with database.transaction() as session:
                new = jobs.events_after(session, job.id, seen[-1].id if seen else 0, 10)
            seen += new
            if are_done and not new:
                break
        for future in writers:
            future.result()
    assert len(seen) == 2 + num_writers * num_each
    for writer in range(num_writers):
        own = [event.data["i"] for event in seen if event.data.get("writer") == writer]
        assert own == list(range(num_each))


def test_a_job_has_what_it_was_submitted_with(database: Database) -> None:
    """What is left out is empty, in the database null; the tenant is the session's unless one is given."""
    dataset_id = add_dataset(database)
    parent = submit(database)
    with database.transaction() as session:
        given = {
            "kind": "pretrain", "recipe": {"seed": 1}, "dataset_id": dataset_id, "model_id": add_model(session).id,
            "resources": {"gpus": 2}, "idempotency_key": "key", "request_sha256": "s", "parent_id": parent.id,
            "cell": {"seed": 1}, "traceparent": "00-1-2-01",
        }  # fmt: skip
        job = jobs.submit(session, **given, metadata={"by": "ci"}, tenant="default")  # type: ignore[arg-type]  # of any kind
        assert {name: getattr(job, name) for name in given} == given
        assert (job.metadata_, job.status, job.attempt, job.tenant) == ({"by": "ci"}, "queued", 0, "default")
        empty = (Job.dataset_id, Job.model_id, Job.parent_id, Job.cell, Job.traceparent)
        assert session.scalars(select(Job.id).where(*(column.is_(None) for column in empty))).all() == [parent.id]
        assert (parent.resources, parent.metadata_) == ({}, {})


def test_a_key_is_of_one_tenant(database: Database) -> None:
    """Two tenants that use the same have a job each, and find their own again."""
    fields = {"idempotency_key": "key", "request_sha256": "same"}
    submit(database)
    ours, theirs = (submit(database.of(tenant), **fields).id for tenant in ("default", "theirs"))
    assert ours != theirs
    assert [submit(database.of(tenant), **fields).id for tenant in ("default", "theirs")] == [ours, theirs]


def test_an_agent_is_told_what_to_do(database: Database) -> None:
    """To go on, to give its nodes back, to cancel; a new attempt has not been asked for anything."""
    job = running(database)
    other = running(database)

    def told(attempt: int) -> jobs.Orders:
        with database.transaction() as session:
            assert jobs.orders(session, other.id, 1) == jobs.Orders.GO_ON
            return jobs.orders(session, job.id, attempt)

    assert told(1) == jobs.Orders.GO_ON
    with database.transaction() as session:
        jobs.ask_to_yield(session, job)
    assert told(1) == jobs.Orders.YIELD
    queued = held(database, job, jobs.requeue, "yielded")
    with pytest.raises(jobs.Fenced, match=f"attempt 1 of {job.id} is over"):
        told(1)
    with database.transaction() as session:
        job = jobs.start(session, queued)
    assert told(2) == jobs.Orders.GO_ON
    add_placement(database, job, claimed=True)
    with database.transaction() as session:
        jobs.request_cancel(session, job.id)
    assert told(2) == jobs.Orders.CANCEL


def test_each_start_is_an_attempt_and_the_first_one_s_time_is_kept(database: Database) -> None:
    """Its event has the nodes; the time it started, and its place in the queue, are those of the first."""
    first = running(database)
    held(database, first, jobs.requeue, "node_lost")
    with database.transaction() as session:
        again = jobs.start(session, session.get_one(Job, first.id), ["a", "b"])
    assert (again.attempt, again.status) == (2, "running")
    assert first.started_at is not None
    assert (again.started_at, again.priority_at) == (first.started_at, first.priority_at)
    with database.transaction() as session:
        (event,) = jobs.events_after(session, first.id, 0, 100)[-1:]
    assert (event.attempt, event.data) == (2, {"status": "running", "nodes": ["a", "b"]})


@pytest.mark.parametrize(
    ("end", "arguments", "status", "result", "error"),
    [
        (jobs.succeed, ({"loss": 0.5},), "succeeded", {"loss": 0.5}, None),
        (jobs.fail, ("crashed", "it broke"), "failed", None, {"code": "crashed", "message": "it broke"}),
    ],
)
def test_an_end_has_its_result_or_its_error(
    database: Database, end: Callable[..., Job], arguments: tuple[Any, ...], status: str, result: Any, error: Any
) -> None:
    """The other is null in the database too; the error's code is in the event, and the job's places are free."""
    job = running(database)
    add_placement(database, job, claimed=True)
    ended = held(database, job, end, *arguments)
    assert (ended.status, ended.result, ended.error) == (status, result, error)
    assert ended.finished_at is not None
    assert statuses(database, job.id)[-1] == (status, error and error["code"])
    with database.transaction() as session:
        assert session.scalar(select(func.count()).where((Job.error if result else Job.result).is_(None))) == 1
        assert session.scalar(select(Placement.ended_at)) is not None


def test_a_resumed_job_goes_to_the_end_of_the_queue(database: Database) -> None:
    """Its event says why, and nothing is left of its end."""
    dataset_id = add_dataset(database, "ready")
    job = running(database, kind="pretrain", dataset_id=dataset_id)
    held(database, job, jobs.fail, "broken", "it broke")
    with database.transaction() as session:
        resumed = jobs.resume(session, job.id)
        assert resumed.priority_at > job.priority_at
        assert (resumed.finished_at, resumed.error) == (None, None)
        assert session.scalar(select(func.count()).where(Job.id == job.id, Job.error.is_(None)))
    assert statuses(database, job.id)[-1] == ("queued", "resumed")


def test_who_must_not_wait_for_a_job_is_fenced(database: Database) -> None:
    """One that another transaction holds is as one whose attempt is over."""
    job = running(database)
    with database.transaction() as first, database.transaction() as second:
        assert jobs.hold(first, job.id, 1).id == job.id
        with pytest.raises(jobs.Fenced, match=f"attempt 1 of {job.id} is over"):
            jobs.hold(second, job.id, 1, unless_locked=True)


def test_a_cancelled_ingest_says_so_of_its_data_set(database: Database) -> None:
    """What it found wrong is found again when it is resumed; one that succeeds leaves the data set as it made it."""
    dataset_id = add_dataset(database)
    job = submit(database, kind="ingest", dataset_id=dataset_id)
    with database.transaction() as session:
        session.add(DatasetRejection(dataset_id=dataset_id, position=0, name="a.png", code="c", detail="d"))
        jobs.request_cancel(session, job.id)
        dataset = session.get_one(Dataset, dataset_id)
        error = {"code": "cancelled", "message": "its ingest job was cancelled"}
        assert (dataset.status, dataset.error) == ("failed", error)
    with database.transaction() as session:
        job = jobs.start(session, jobs.resume(session, job.id))
        assert session.scalar(select(func.count()).select_from(DatasetRejection)) == 0
        assert session.scalar(select(func.count()).where(Dataset.error.is_(None)))
    held(database, job, jobs.succeed, {})
    with database.transaction() as session:
        assert session.get_one(Dataset, dataset_id).status == "validating"


def test_events_are_read_from_where_a_reader_was(database: Database) -> None:
    """After an id, oldest first, as many as are asked for, of that job alone."""
    job, other = running(database), running(database)
    with database.transaction() as session:
        jobs.record_events(session, job, [("stage", {"stage": "a"}), ("warning", {"of": "b"})])
        jobs.record_event(session, other.id, 1, "stage", {"stage": "c"})
        first, *rest = jobs.events_after(session, job.id, 0, 100)
        assert [event.type for event in rest] == ["status", "stage", "warning"]
        assert jobs.events_after(session, job.id, first.id, 2) == rest[:2]
        assert rest[1].data == {"stage": "a"}


def test_what_a_node_printed_has_a_place() -> None:
    """That of the first node is the one which there always was."""
    assert jobs.log_key("job_1", 2, 0) == "jobs/job_1/log-2.txt"
    assert jobs.log_key("job_1", 2, 3) == "jobs/job_1/log-2-node-3.txt"
