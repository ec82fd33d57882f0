"""The service itself."""

import os
import socket
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import psycopg
import pytest

from service import health
from service.core import jobs
from service.core.db import Database
from service.core.settings import Settings
from service.core.storage import LocalStorage
from service.core.tables import Alias, Node, Placement
from tests.service.conftest import add_model, begin, serving


def test_health_needs_nothing_but_the_process(api: httpx.Client) -> None:
    """/healthz answers ok."""
    assert api.get("/healthz").json() == {"status": "ok"}


def test_ready_with_all_parts(api: httpx.Client) -> None:
    """/readyz names each part with its versions, and that no model serves."""
    response = api.get("/readyz")
    assert response.status_code == 200
    ready = response.json()
    assert ready["status"] == "ready"
    assert ready["production_model"] is None
    assert ready["parts"]["database"]["about"].keys() == {"postgresql", "pgvector"}
    assert ready["parts"]["redis"]["about"].keys() == {"redis"}
    assert {part["status"] for part in ready["parts"].values()} == {"ok"}


def test_ready_names_the_model_in_production(api: httpx.Client, database: Database) -> None:
    """The id of the model that the alias `production` serves."""
    with database.transaction() as session:
        model_id = add_model(session).id
        session.add(Alias(name="production", model_id=model_id))
    assert api.get("/readyz").json()["production_model"] == model_id


@pytest.fixture
def closed_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
    return port


def test_without_redis_the_service_is_degraded(api_settings: Settings, closed_port: int) -> None:
    """200 `degraded`: jobs are accepted and wait."""
    settings = api_settings.model_copy(update={"redis_url": f"redis://127.0.0.1:{closed_port}"})
    with serving(settings) as url:
        response = httpx.get(f"{url}/readyz")
    assert (response.status_code, response.json()["status"]) == (200, "degraded")
    assert response.json()["parts"]["redis"]["status"] == "away"


def test_without_database_the_service_is_not_ready(api_settings: Settings, closed_port: int) -> None:
    """503 with the same report."""
    settings = api_settings.model_copy(update={"database_url": f"postgresql://x@127.0.0.1:{closed_port}/x"})
    with serving(settings) as url:
        response = httpx.get(f"{url}/readyz")
    assert (response.status_code, response.json()["status"]) == (503, "not_ready")
    assert {name: part["status"] for name, part in response.json()["parts"].items()} == {
        "database": "away",
        "storage": "ok",
        "redis": "ok",
    }


def test_without_storage_the_service_is_not_ready(api_settings: Settings, tmp_path: Path) -> None:
    """503 when no blob can be written."""
    with serving(api_settings.model_copy(update={"data_dir": tmp_path})) as url:
        (tmp_path / "storage" / ".partial").rmdir()
        response = httpx.get(f"{url}/readyz")
    assert (response.status_code, response.json()["parts"]["storage"]["status"]) == (503, "away")


def test_a_storage_that_hangs_is_not_waited_for(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """After its time the storage counts as away."""
    may_end = threading.Event()
    monkeypatch.setattr(health, "STORAGE_TIMEOUT_SECONDS", 0.05)
    monkeypatch.setattr(storage, "put", lambda *_: may_end.wait(10), raising=True)
    try:
        assert health.storage_part(storage) == health.Part(is_usable=False, about={"error": "no answer within 0.05 s"})
    finally:
        may_end.set()


@pytest.mark.parametrize("has_pgvector", [True, False])
def test_a_database_without_tables_is_not_ready(
    api_settings: Settings, create_database: Callable[[], str], *, has_pgvector: bool
) -> None:
    """503 that says to migrate, also where pgvector itself is missing."""
    url = create_database()
    if has_pgvector:
        with psycopg.connect(url) as connection:
            connection.execute("create extension vector")
    with serving(api_settings.model_copy(update={"database_url": url})) as address:
        response = httpx.get(f"{address}/readyz")
    assert response.status_code == 503
    assert "simclr migrate" in response.json()["parts"]["database"]["about"]["error"]


def test_the_api_sweeps_the_storage_when_it_starts(api_settings: Settings, tmp_path: Path) -> None:
    """What a killed process left half-written long ago is gone."""
    left = LocalStorage(tmp_path / "storage").partial / "left"
    left.touch()
    os.utime(left, (0, 0))
    with serving(api_settings.model_copy(update={"data_dir": tmp_path})):
        assert not left.exists()


def test_the_system_shows_nodes_and_queue(api: httpx.Client, database: Database) -> None:
    """A live and a silent node with their free slots and jobs, the queue, and the unfinished jobs in each state."""
    long_ago = datetime.now(UTC) - timedelta(hours=1)
    with database.transaction() as session:
        for name, heartbeat_at in (("a", datetime.now(UTC)), ("b", long_ago)):
            session.add(
                Node(
                    name=name,
                    address="127.0.0.1",
                    slots={"cpu": 2, "light": 2},
                    devices={"cpu": {"num_cores": 2}},
                    versions={"torch": "2.15"},
                    heartbeat_at=heartbeat_at,
                )
            )
        model_id = add_model(session).id
        queued, running, done = (jobs.submit(session, kind="index", recipe={}, model_id=model_id) for _ in range(3))
        for job in (running, done):
            begin(session, job.id)
            placement = {"node_name": "a", "node_rank": 0, "slot": "light", "num_slots": 1, "token": "t"}
            session.add(Placement(job_id=job.id, attempt=1, lease_until=long_ago, **placement))
        session.flush()
        jobs.succeed(session, jobs.hold(session, done.id, 1), {})
    system = api.get("/v1/system").json()
    assert system["jobs"] == {"queued": 1, "running": 1, "cancelling": 0}
    assert [(node["name"], node["is_alive"], node["free_slots"]) for node in system["nodes"]] == [
        ("a", True, {"cpu": 2, "light": 1}),
        ("b", False, {"cpu": 2, "light": 2}),
    ]
    assert [[job["job_id"] for job in node["running"]] for node in system["nodes"]] == [[running.id], []]
    assert [job["id"] for job in system["queue"]] == [queued.id]
