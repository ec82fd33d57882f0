"""Events, metrics, logs and checkpoints of jobs over HTTP."""

import json
import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from sqlalchemy import func, select

from service import cli
from service.core import jobs
from service.core.db import Database
from service.core.ids import new_id
from service.core.settings import Settings
from service.core.storage import LocalStorage
from service.core.tables import Checkpoint, JobEvent, Placement
from tests.service.conftest import add_dataset, add_model, begin
from tests.service.routes.event_streams import SSE, read_stream
from tests.waiting import wait_until


@pytest.fixture
def job_id(database: Database) -> str:
    """A running job, in its first attempt."""
    with database.transaction() as session:
        model = add_model(session)
        job = jobs.submit(
            session, kind="linear_probe", recipe={}, model_id=model.id, dataset_id=add_dataset(session).id
        )
        return begin(session, job.id).id


def record(database: Database, job_id: str, step: int, **data: Any) -> None:
    with database.transaction() as session:
        jobs.record_event(session, job_id, 1, "metrics", {"step": step, **data})


def end(database: Database, job_id: str) -> None:
    with database.transaction() as session:
        jobs.succeed(session, jobs.hold(session, job_id, 1), {})


def stored_ids(database: Database, job_id: str) -> list[int]:
    with database.transaction() as session:
        return list(session.scalars(select(JobEvent.id).where(JobEvent.job_id == job_id).order_by(JobEvent.id)))


def test_events_as_a_list(api: httpx.Client, database: Database, job_id: str) -> None:
    """Parts of 2 lead from one to the next; the last of an ended job has no next."""
    record(database, job_id, 1, loss=2.5)
    seen, after = [], 0
    for _ in range(2):
        part = api.get(f"/v1/jobs/{job_id}/events", params={"after": after, "limit": 2}).json()
        seen += part["items"]
        after = part["next"]
    assert [(event["type"], event["data"]) for event in seen] == [
        ("status", {"status": "queued"}),
        ("status", {"status": "running", "nodes": []}),
        ("metrics", {"step": 1, "loss": 2.5}),
    ]
    assert after == seen[-1]["id"]  # more may come
    end(database, job_id)
    part = api.get(f"/v1/jobs/{job_id}/events", params={"after": after}).json()
    assert [event["data"] for event in part["items"]] == [{"status": "succeeded"}]
    assert part["next"] is None


def test_a_stream_tells_events_as_they_happen_and_ends(api: httpx.Client, database: Database, job_id: str) -> None:
    """An event reaches the open stream within a second; the job's end closes it."""
    with api.stream("GET", f"/v1/jobs/{job_id}/events", headers=SSE) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        events = read_stream(response)
        assert next(events) == {"retry": "1000"}
        assert [next(events)["event"] for _ in range(2)] == ["status", "status"]
        started = time.monotonic()
        record(database, job_id, 7)
        event = next(events)
        assert time.monotonic() - started < 1
        assert event["event"] == "metrics"
        data = json.loads(event["data"])
        assert (data["id"], data["attempt"], data["data"]) == (int(event["id"]), 1, {"step": 7})
        end(database, job_id)
        assert [json.loads(event["data"])["data"]["status"] for event in events] == ["succeeded"]


def test_dropped_streams_lose_and_repeat_nothing(api: httpx.Client, database: Database, job_id: str) -> None:
    """Two writers, a reader that drops its connection again and again: each event comes once, in order."""
    draw = random.Random(0)

    def write(first: int) -> None:
        for step in range(first, first + 100):
            record(database, job_id, step)

    def write_all() -> None:
        with ThreadPoolExecutor(2) as writers:
            list(writers.map(write, (0, 1000)))
        end(database, job_id)

    seen: list[int] = []
    with ThreadPoolExecutor(1) as background:
        written = background.submit(write_all)
        status = 200
        while status == 200:
            last = {"Last-Event-ID": str(seen[-1])} if seen else {}
            with api.stream("GET", f"/v1/jobs/{job_id}/events", headers=SSE | last) as response:
                events = (event for event in read_stream(response) if "id" in event)
                seen += [int(event["id"]) for event in islice(events, draw.randrange(1, 20))]
                status = response.status_code
        written.result()
    assert status == 204
    assert seen == stored_ids(database, job_id)
    assert len(seen) == 2 + 200 + 1


def test_a_stream_with_nothing_to_come_is_204(api: httpx.Client, database: Database, job_id: str) -> None:
    """After the last event of an ended job, a browser that connects again is told to stop; a new reader gets all."""
    end(database, job_id)
    ids = stored_ids(database, job_id)
    url = f"/v1/jobs/{job_id}/events"
    assert api.get(url, headers=SSE | {"Last-Event-ID": str(ids[-1])}).status_code == 204
    again = api.get(url, headers=SSE | {"Last-Event-ID": str(ids[-2])}).text
    assert again.count("\nid: ") == 1
    assert api.get(url, headers=SSE).text.count("\nid: ") == len(ids)


@pytest.mark.parametrize("bad", ["x", "-1", "1.5", "", "٣", "9" * 5000, str(2**63)])
def test_a_malformed_last_event_id_is_refused(api: httpx.Client, job_id: str, bad: str) -> None:
    """400, and no stream."""
    response = api.get(
        f"/v1/jobs/{job_id}/events", headers=[("Accept", SSE["Accept"]), ("Last-Event-ID", bad.encode())]
    )
    assert (response.status_code, response.json()["code"]) == (400, "bad_request")


def test_open_streams_hold_no_connection(api: httpx.Client, database: Database, job_id: str) -> None:
    """50 open streams, more than the pool has connections, leave the API quick, and the event loop free."""
    opened: list[int] = []

    def listen(_: int) -> int:
        with httpx.stream("GET", api.base_url.join(f"/v1/jobs/{job_id}/events"), headers=SSE, timeout=60) as response:
            opened.append(response.status_code)
            return sum("id" in event for event in read_stream(response))

    with ThreadPoolExecutor(50) as pool:
        counts = [pool.submit(listen, i) for i in range(50)]
        try:
            wait_until(lambda: len(opened) == 50, timeout_seconds=30)
            started = time.monotonic()
            assert api.get(f"/v1/jobs/{job_id}").status_code == 200
            assert time.monotonic() - started < 2
        finally:
            end(database, job_id)
        assert {count.result() for count in counts} == {3}


def test_a_quiet_stream_is_kept_alive(
    api: httpx.Client, database: Database, job_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When nothing happens, comments keep proxies from closing the connection."""
    monkeypatch.setattr("service.event_stream.KEEPALIVE_SECONDS", 0.1)
    with api.stream("GET", f"/v1/jobs/{job_id}/events", headers=SSE) as response:
        assert any(line.startswith(":") for line in response.iter_lines())


def test_a_server_that_stops_ends_its_streams(api: httpx.Client, job_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream of a running job closes when the server was told to stop, so that it need not be cut."""
    monkeypatch.setattr("service.event_stream.stopping", threading.Event())
    with api.stream("GET", f"/v1/jobs/{job_id}/events", headers=SSE) as response:
        events = read_stream(response)
        assert next(events) == {"retry": "1000"}
        config = uvicorn.Config("service.app:create_app", factory=True)
        cli.Server(config).handle_exit(signal.SIGTERM, None)
        assert [event["event"] for event in events] == ["status", "status"]


def test_metrics_are_columns(api: httpx.Client, database: Database, job_id: str) -> None:
    """One list a measure, all of one length, null where an event lacks it."""
    assert api.get(f"/v1/jobs/{job_id}/metrics").json() == {}
    record(database, job_id, 1, loss=3.0)
    record(database, job_id, 2, loss=2.0, images_per_second=900.5)
    columns = api.get(f"/v1/jobs/{job_id}/metrics").json()
    assert columns == {
        "step": [1, 2],
        "loss": [3.0, 2.0],
        "images_per_second": [None, 900.5],
        "attempt": [1, 1],
    }


def test_the_log_is_text(
    api: httpx.Client, api_settings: Settings, database: Database, job_id: str, tmp_path: Path
) -> None:
    """Empty at first, then what the process on this machine printed so far, then what was stored at the end."""
    url = f"/v1/jobs/{job_id}/log"
    assert (api.get(url).status_code, api.get(url).text) == (200, "")
    live = api_settings.runs_dir("node-a") / job_id / "1" / "log.txt"
    live.parent.mkdir(parents=True)
    placed = {"node_rank": 0, "node_name": "node-a", "slot": "cpu", "num_slots": 1, "token": "t", "num_relayed": 0}
    with database.transaction() as session:
        session.add(Placement(job_id=job_id, attempt=1, lease_until=func.now(), **placed))
    live.write_text("epoch 1 \N{CHECK MARK}")
    assert api.get(url).text == "epoch 1 \N{CHECK MARK}"
    live.unlink()
    LocalStorage(api_settings.storage_dir).put(f"jobs/{job_id}/log-1.txt", "epoch 2 \N{CHECK MARK}".encode())
    response = api.get(url, params={"attempt": 1})
    assert response.text == "epoch 2 \N{CHECK MARK}"
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert api.get(url, params={"attempt": 2}).status_code == 404
    LocalStorage(api_settings.storage_dir).put(f"jobs/{job_id}/log-1-node-3.txt", b"of another node")
    assert api.get(url, params={"node_rank": 3}).text == "of another node"


def test_checkpoints_newest_first(api: httpx.Client, database: Database, job_id: str) -> None:
    """The checkpoints' steps, sizes and sums, without where they are stored."""
    with database.transaction() as session:
        for step in (10, 20):
            session.add(Checkpoint(job_id=job_id, step=step, attempt=1, key="k", sha256="ab", num_bytes=5))
    page = api.get(f"/v1/jobs/{job_id}/checkpoints").json()
    assert [item["step"] for item in page["items"]] == [20, 10]
    assert page["items"][0].keys() == {"step", "attempt", "sha256", "num_bytes", "created_at"}
    assert page["next"] is None


@pytest.mark.parametrize("part", ["", "/events", "/metrics", "/log", "/checkpoints", "/report"])
def test_an_unknown_job_has_no_history(api: httpx.Client, part: str) -> None:
    """404, also for a stream."""
    assert api.get(f"/v1/jobs/{new_id('job')}{part}", headers=SSE).status_code == 404
