"""What Prometheus reads: of requests, of embedding, of jobs and workers."""

import socket
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from service.admission import Admission
from service.core import jobs
from service.core.db import Database
from service.core.errors import Busy
from service.core.ids import new_id
from service.core.settings import Settings
from service.core.storage import LocalStorage
from service.core.tables import Job, Node, Placement
from tests.prometheus_text import Samples, families, samples, value
from tests.service.conftest import begin, serving
from tests.service.routes.gallery import picture
from tests.small_models import publish


def read(api: httpx.Client) -> Samples:
    response = api.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return samples(response.text)


def test_requests_are_counted_by_route_and_status(api: httpx.Client) -> None:
    """Ids are no labels: two jobs that don't exist are one route. What has no route is `none`, whatever it is."""
    before = read(api)
    for path in (f"/v1/jobs/{new_id('job')}", f"/v1/jobs/{new_id('job')}", "/nowhere/1", "/nowhere/2"):
        assert api.get(path).status_code == 404
    assert api.request("PROPFIND", "/nowhere").status_code == 404
    after = read(api)
    job = {"method": "GET", "route": "/v1/jobs/{job_id}"}
    for name, labels, number in [
        ("simclr_requests_total", {**job, "status": "404"}, 2),
        ("simclr_request_seconds_count", job, 2),
        ("simclr_request_seconds_bucket", {**job, "le": "+Inf"}, 2),
        ("simclr_requests_total", {"method": "GET", "route": "none", "status": "404"}, 2),
        ("simclr_requests_total", {"method": "other", "route": "none", "status": "404"}, 1),
    ]:
        assert value(after, name, **labels) - value(before, name, **labels) == number, (name, labels)


def test_a_request_that_is_refused_at_the_door_has_its_route(
    api: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """429 of a flood is counted where it was wanted, though no route was looked for."""

    def refuse(self: Admission) -> None:
        raise Busy("no", retry_after_seconds=1)

    monkeypatch.setattr(Admission, "check_wait", refuse)
    labels = {"method": "POST", "route": "/v1/embeddings", "status": "429"}
    before = value(read(api), "simclr_requests_total", **labels)
    assert api.post("/v1/embeddings").status_code == 429
    assert value(read(api), "simclr_requests_total", **labels) == before + 1


def test_images_batches_and_stages_are_counted(api: httpx.Client, database: Database, storage: LocalStorage) -> None:
    """Three images go through decoding and batches, and come from the cache the second time."""
    publish(database, storage)
    files = [("files", (f"{i}.png", picture(91_000 + i))) for i in range(3)]
    before = read(api)
    for _ in range(2):
        assert api.post("/v1/embeddings", files=files).status_code == 200
    after = read(api)

    def grown(name: str, **labels: str) -> float:
        return value(after, name, **labels) - value(before, name, **labels)

    assert grown("simclr_embed_images_total", source="model") == 3
    assert grown("simclr_embed_images_total", source="cache") == 3
    assert grown("simclr_embed_batch_images_sum") == 3
    assert grown("simclr_embed_stage_seconds_count", stage="decode") == 3
    assert grown("simclr_embed_stage_seconds_count", stage="queue") == 3
    batches = grown("simclr_embed_batch_images_count")
    assert grown("simclr_embed_stage_seconds_count", stage="compute") == batches
    assert 1 <= batches <= 3
    assert value(after, "simclr_embed_images_in_flight") == 0


def test_jobs_the_queue_and_slots_are_those_of_the_database(api: httpx.Client, database: Database) -> None:
    """Jobs in each state, the age of the first that waits, live workers, their slots and what holds them."""
    slots = {"cpu": 1, "cuda": 4, "light": 2}
    nodes = {"address": "127.0.0.1", "devices": {}, "versions": {}, "slots": slots}
    with database.transaction() as session:
        session.add_all([Node(name="here", **nodes), Node(name="there", **nodes)])
        session.add(Node(name="gone", heartbeat_at=datetime.now(UTC) - timedelta(hours=1), **nodes))
        running, waiting = (jobs.submit(session, kind="export", recipe={}).id for _ in range(2))
        job = begin(session, running)
        job_waiting = session.get_one(Job, waiting)
        job_waiting.priority_at = datetime.now(UTC) - timedelta(minutes=10)
        lease = {"token": "t", "lease_until": datetime.now(UTC) + timedelta(seconds=8)}
        session.add(
            Placement(
                job_id=job.id, attempt=job.attempt, node_rank=0, node_name="here", slot="cuda", num_slots=3, **lease
            )
        )
    found = read(api)
    counted = {status: value(found, "simclr_jobs", status=status) for status in ("queued", "running", "failed")}
    assert counted == {"queued": 1, "running": 1, "failed": 0}
    assert value(found, "simclr_queue_oldest_seconds") == pytest.approx(600, abs=20)
    assert value(found, "simclr_nodes_alive") == 2
    assert {kind: value(found, "simclr_slots", kind=kind) for kind in slots} == {"cpu": 2, "cuda": 8, "light": 4}
    assert {kind: value(found, "simclr_slots_used", kind=kind) for kind in slots} == {"cpu": 0, "cuda": 3, "light": 0}


def test_without_the_database_the_process_still_tells_of_itself(api_settings: Settings) -> None:
    """200, with `simclr_database_up` 0 and nothing of jobs: no number is better than one that is wrong."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"postgresql://x@127.0.0.1:{closed.getsockname()[1]}/x"
        with serving(api_settings.model_copy(update={"database_url": url})) as address:
            text = httpx.get(f"{address}/metrics", timeout=20).text
    assert value(samples(text), "simclr_database_up") == 0
    assert "simclr_requests_total" in families(text)
    assert "simclr_jobs" not in families(text)
