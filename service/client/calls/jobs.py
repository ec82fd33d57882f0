"""Jobs: training, probes, exports and indexing."""

import uuid
from collections.abc import Callable
from typing import Any, Literal, cast

from service.client.call import Call, Listing, Pause, Steps, get, given, read_json
from service.client.errors import JobFailed
from service.client.results import JSON, Job, SucceededJob

POLL_SECONDS = 0.5
ENDED = ("succeeded", "failed", "cancelled")

ReportForm = Literal["json", "html", "png"]


def submit(kind: str, *, idempotency_key: str | None = None, **fields: Any) -> Call[Job]:
    """POST a job; the fields are those of the API: dataset_id, model_id, recipe, resources, metadata.

    The same `idempotency_key` and fields give the same job again. By default there is a new key, so that what is sent
    again after a broken connection is one job, and calling it twice is two.
    """
    headers = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
    return Call("POST", "/v1/jobs", read_json, {"json": {"kind": kind, **fields}, "headers": headers})


def get_job(job_id: str) -> Call[Job]:
    """A job as it is now."""
    return Call("GET", f"/v1/jobs/{job_id}", read_json)


def wait_for_job(job_id: str, on_progress: Callable[[Job], None] | None = None) -> Steps[SucceededJob]:
    """The job once it succeeded; `on_progress` gets it twice a second until then. Raises JobFailed."""
    while True:
        job: Job = yield get_job(job_id)
        if on_progress:
            on_progress(job)
        if job["status"] == "succeeded":
            return cast("SucceededJob", job)
        if job["status"] in ENDED:
            error = job["error"] or {"code": job["status"], "message": "on request"}
            raise JobFailed(f"job {job_id} ({job['kind']}) {job['status']}: {error['message']} ({error['code']})")
        yield Pause(POLL_SECONDS)


def cancel_job(job_id: str) -> Call[Job]:
    """Stop a job: a queued one at once, a running one within seconds. It can be resumed."""
    return Call("POST", f"/v1/jobs/{job_id}/cancel", read_json)


def resume_job(job_id: str) -> Call[Job]:
    """Queue a failed or cancelled job again; it goes on from its newest checkpoint."""
    return Call("POST", f"/v1/jobs/{job_id}/resume", read_json)


def get_events(job_id: str, *, after: int = 0, limit: int = 100) -> Call[JSON]:
    """A part of a job's events: `items`, and the `after` of the part that follows, None when no more come."""
    return get(f"/v1/jobs/{job_id}/events", after=after, limit=limit)


def get_metrics(job_id: str) -> Call[dict[str, list[Any]]]:
    """What training measured, as columns of equal length: step, loss, learning_rate, ..."""
    return Call("GET", f"/v1/jobs/{job_id}/metrics", read_json)


def get_log(job_id: str, *, attempt: int | None = None, node_rank: int = 0) -> Call[str]:
    """What the process of an attempt printed, by default of the newest."""
    query = given(attempt=attempt, node_rank=node_rank)
    return Call("GET", f"/v1/jobs/{job_id}/log", lambda response: response.text, {"params": query})


def report(job_id: str, form: ReportForm) -> Call[bytes]:
    """A job's report as the content of a file."""
    query = {"format": form}
    return Call("GET", f"/v1/jobs/{job_id}/report", lambda response: response.content, {"params": query})


def list_jobs(**query: Any) -> Listing:
    """All jobs, newest first; `kind`, `status` and `parent_id` choose."""
    return Listing("/v1/jobs", query)


def list_checkpoints(job_id: str) -> Listing:
    """The training states from which the job would go on, newest first."""
    return Listing(f"/v1/jobs/{job_id}/checkpoints", {})
