"""`simclr jobs` on a job that waits."""

import io
from typing import Any

import pytest
from rich.console import Console

from service.commands import jobs, output


class Client:
    """A service whose job waits for two looks, and was warned between them."""

    def __init__(self) -> None:
        self.looks = 0

    def get(self, path: str, *, after: int, limit: int) -> Any:
        assert path == "/v1/jobs/job_1/events"
        assert limit == 1000
        self.looks += 1
        queued = {"id": 1, "type": "status", "data": {"status": "queued"}}
        other = {"id": 2, "type": "warning", "data": {"code": "not_compiled", "message": "slow"}}
        warning = {"id": 3, "type": "warning", "data": {"code": "no_nodes", "message": "no node has [cuda]"}}
        events = [queued, other] if self.looks <= 2 else [queued, other, warning]
        return {"items": [event for event in events if event["id"] > after]}

    def wait_for_job(self, job_id: str, on_progress: Any) -> Any:
        for status in ("queued", "queued", "queued", "running"):
            on_progress({"id": job_id, "status": status, "progress": None})
        return {"id": job_id, "result": {"top1": 0.5, "classes": ["a", "b"]}}


def test_a_job_that_waits_says_why_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """And at its end the figures, not the lists."""
    file = io.StringIO()
    monkeypatch.setattr(output, "console", Console(file=file, width=200))
    client: Any = Client()
    jobs._watch(client, "job_1")
    assert client.looks == 5  # each to the end of what there is
    assert "slow" not in file.getvalue()
    assert file.getvalue().count("no node has [cuda]") == 1
    assert '"top1": 0.5' in file.getvalue()
    assert "classes" not in file.getvalue()
    assert "simclr jobs report job_1 --html report.html" in file.getvalue()
