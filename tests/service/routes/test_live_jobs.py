"""The list of jobs as a stream."""

import json
import threading
from collections.abc import Iterator
from itertools import islice
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from service.core import jobs
from service.core.db import Database
from service.core.tables import Job
from service.live_jobs import JobsLook
from tests.service.conftest import add_dataset, begin
from tests.service.routes.event_streams import SSE, read_stream


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.live_jobs.LOOK_SECONDS", 0.05)
    monkeypatch.setattr("service.live_jobs.MAX_SECONDS", 10)  # what isn't told by then won't be


def submit(database: Database, kind: str = "pretrain") -> str:
    with database.transaction() as session:
        return jobs.submit(session, kind=kind, recipe={}, dataset_id=add_dataset(session).id).id


def start(database: Database, job_id: str) -> None:
    with database.transaction() as session:
        begin(session, job_id)


def advance(database: Database, job_id: str, step: int) -> None:
    with database.transaction() as session:
        jobs.hold(session, job_id, 1).progress = {"step": step, "steps": 10}


def end(database: Database, job_id: str) -> None:
    with database.transaction() as session:
        jobs.succeed(session, jobs.hold(session, job_id, 1), {"model_id": None})


def told(response: httpx.Response) -> Iterator[dict[str, Any]]:
    """The jobs that a stream tells."""
    for event in read_stream(response):
        if "data" in event:
            assert event["event"] == "job"
            yield json.loads(event["data"])


def test_the_stream_is_the_list_and_then_what_changes(api: httpx.Client, database: Database) -> None:
    """First every job of the page, as the list has it; then each change once, and nothing of jobs that stay."""
    first, second = submit(database), submit(database)
    with api.stream("GET", "/v1/jobs", headers=SSE) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        stream = told(response)
        assert list(islice(stream, 2)) == api.get("/v1/jobs").json()["items"][::-1]
        start(database, second)
        assert [(job["id"], job["status"]) for job in islice(stream, 1)] == [(second, "running")]
        advance(database, second, 5)
        assert [(job["id"], job["progress"]["step"]) for job in islice(stream, 1)] == [(second, 5)]
        third = submit(database)
        assert [(job["id"], job["status"]) for job in islice(stream, 1)] == [(third, "queued")]
        end(database, second)
        assert list(islice(stream, 1)) == [api.get(f"/v1/jobs/{second}").json()]
        start(database, first)
        assert [job["id"] for job in islice(stream, 1)] == [first]


def test_only_the_jobs_that_are_asked_for_are_told(api: httpx.Client, database: Database) -> None:
    """Filters hold as for the list; one that leaves the filter by its change is told that change."""
    other, queued = submit(database, "ablation"), submit(database)
    with api.stream("GET", "/v1/jobs?kind=pretrain&status=queued", headers=SSE) as response:
        stream = told(response)
        assert [job["id"] for job in islice(stream, 1)] == [queued]
        start(database, other)
        start(database, queued)
        assert [(job["id"], job["status"]) for job in islice(stream, 1)] == [(queued, "running")]


def test_a_job_is_followed_to_its_end_when_newer_ones_come(api: httpx.Client, database: Database) -> None:
    """With a page of one, an older job that was told while it ran is told until it has ended, and then no more."""
    old = submit(database)
    start(database, old)
    with api.stream("GET", "/v1/jobs?limit=1", headers=SSE) as response:
        stream = told(response)
        assert [job["id"] for job in islice(stream, 1)] == [old]
        new = submit(database)
        assert [job["id"] for job in islice(stream, 1)] == [new]
        end(database, old)
        assert [(job["id"], job["status"]) for job in islice(stream, 1)] == [(old, "succeeded")]
        with database.transaction() as session:
            session.get_one(Job, old).metadata_ = {"after": "its end"}
        start(database, new)
        assert [job["id"] for job in islice(stream, 1)] == [new]


def test_a_stream_comes_to_an_end(api: httpx.Client, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """After its time, so that a key is looked at again; and when the server is to stop."""
    submit(database)
    with monkeypatch.context() as shortened:
        shortened.setattr("service.live_jobs.MAX_SECONDS", 0.2)
        with api.stream("GET", "/v1/jobs", headers=SSE) as response:
            assert len(list(told(response))) == 1
    stopping = threading.Event()
    monkeypatch.setattr("service.event_stream.stopping", stopping)
    with api.stream("GET", "/v1/jobs", headers=SSE) as response:
        stream = told(response)
        assert len(list(islice(stream, 1))) == 1
        stopping.set()
        assert list(stream) == []


def test_another_tenant_s_jobs_are_not_told(database: Database) -> None:
    """A look that is bound to a tenant finds its jobs alone."""
    submit(database)
    looks = {tenant: JobsLook(database.of(tenant), select(Job), 10) for tenant in ("default", "other")}
    assert [len(look()[0]) for look in looks.values()] == [1, 0]
