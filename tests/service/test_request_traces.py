"""A request's span and what it did."""

import json
import logging

import httpx
import pytest
import structlog

from service.core.db import Database
from service.core.log import configure_logging
from service.core.settings import Settings
from service.core.storage import LocalStorage
from tests.collector import Collector, collecting
from tests.service.conftest import serving
from tests.service.routes.gallery import id_of, picture, upload
from tests.small_models import publish

CLIENT = f"00-{'c' * 32}-{'d' * 16}-01"


def traced(monkeypatch: pytest.MonkeyPatch, settings: Settings, work: object) -> Collector:
    """What is collected of the requests that `work` makes."""
    with collecting(monkeypatch) as collector:
        with serving(settings) as url, httpx.Client(base_url=url, timeout=30) as api:
            assert callable(work)
            work(api)
        from service.core import tracing  # noqa: PLC0415

        tracing.stop()
    return collector


def test_requests_embeddings_and_searches(
    database: Database, api_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Route and status, tenant and request id; the stages of embedding lie within it, and so does a search."""
    publish(database, LocalStorage(api_settings.storage_dir))
    request_ids: list[str] = []

    def work(api: httpx.Client) -> None:
        upload(api, [picture(seed) for seed in range(3)], collection="traced")
        files = [("files", ("a.png", picture(9)))]
        embedded = api.post("/v1/embeddings", files=files, headers={"traceparent": CLIENT})
        request_ids.append(embedded.headers["X-Request-Id"])
        api.post("/v1/search", json={"image_id": id_of(picture(0)), "collection": "traced", "k": 2}).raise_for_status()
        assert api.get("/v1/jobs/job_00000000000000000000000000").status_code == 404
        assert api.get("/nothing/here").status_code == 404

    collector = traced(monkeypatch, api_settings, work)
    embedding = collector.one("POST /v1/embeddings")
    assert (embedding.trace_id, embedding.parent_id, embedding.is_error) == ("c" * 32, "d" * 16, False)
    assert embedding.attributes == {
        "http.request.method": "POST",
        "http.route": "/v1/embeddings",
        "http.response.status_code": 200,
        "simclr.request_id": request_ids[0],
        "simclr.tenant": "default",
    }
    stages = [span for span in collector.spans if collector.ancestors(span)[-1:] == ["POST /v1/embeddings"]]
    assert {span.name for span in stages} == {"embed", "turn", "decode", "queue", "compute"}
    assert collector.ancestors(next(span for span in stages if span.name == "decode"))[0] == "embed"
    (compute,) = [span for span in stages if span.name == "compute"]
    assert compute.attributes["simclr.images_in_batch"] == 1
    assert collector.ancestors(collector.one("search")) == ["POST /v1/search"]
    assert collector.one("GET /v1/jobs/{job_id}").attributes["http.response.status_code"] == 404
    assert "GET none" in {span.name for span in collector.spans}


def test_records_name_their_trace(
    database: Database, api_settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a request logs has the trace's id beside the request's."""
    keyed = api_settings.model_copy(update={"auth": "on"})
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        configure_logging()
        collector = traced(monkeypatch, keyed, lambda api: api.get("/v1/jobs"))
        lines = [json.loads(line) for line in capsys.readouterr().err.splitlines() if '"refused"' in line]
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        structlog.reset_defaults()
    (record,) = lines
    span = collector.one("GET none")
    assert (record["trace_id"], record["request_id"]) == (span.trace_id, span.attributes["simclr.request_id"])
