"""Redis and PostgreSQL are killed and kept away for some seconds: what is still answered, and how soon all is well.

As long as nobody calls `wait_until`, nothing starts them again.
"""

import time
from collections.abc import Callable

import httpx
from promises.jobs import JSON, Jobs

from service.client import ApiError, Client
from tests.models.image_files import encode, noise

AWAY_SECONDS = 2.5
PAUSE_SECONDS = 0.05
QUESTIONS: tuple[tuple[str, str, JSON | None], ...] = (
    ("GET", "/v1/jobs", None),
    ("GET", "/v1/collections", None),
    ("POST", "/v1/jobs", {"kind": "index", "model_id": f"mdl_{'0' * 26}"}),
)

Note = Callable[[str, float], None]


def without_redis(jobs: Jobs, note: Note) -> float:
    """Seconds from the return of Redis to the end of a job that was submitted while it was away."""
    jobs.cluster.part("valkey").kill()
    began = time.monotonic()
    try:
        jobs.post("index", model_id=jobs.model_id)
        note("jobs_refused_without_redis", 0)
    except (ApiError, httpx.TransportError):
        note("jobs_refused_without_redis", 1)
        jobs.submit("index", model_id=jobs.model_id)
    job_id = jobs.all[-1]
    note("accepted_without_redis_seconds", time.monotonic() - began)
    time.sleep(max(0.0, began + AWAY_SECONDS - time.monotonic()))
    jobs.wait_until(lambda: _redis_status(jobs) == "ok", "Redis back")
    return jobs.wait_until(lambda: jobs.get(job_id).get("status") == "succeeded", "a job after Redis' death")


def _redis_status(jobs: Jobs) -> str:
    parts = (jobs.ask("/readyz") or {"parts": {}})["parts"]
    return str(parts.get("redis", {}).get("status"))


def without_database(jobs: Jobs, job_id: str, note: Note) -> float:
    """Seconds from the end of its time away to a list of jobs, and a step of the training."""
    embed(jobs.client)  # what has served is in memory
    jobs.cluster.part("postgres").kill()
    until = time.monotonic() + AWAY_SECONDS
    with httpx.Client(base_url=jobs.cluster.url, timeout=10, trust_env=False) as http:
        while time.monotonic() < until:
            for method, path, body in QUESTIONS:
                began = time.monotonic()
                answer = http.request(method, path, json=body)
                note("without_database_seconds", time.monotonic() - began)
                note("not_503_without_database", not _is_unavailable(answer))
            began = time.monotonic()
            note("not_embedded_without_database", not embed(jobs.client))
            note("embedded_without_database_seconds", time.monotonic() - began)
            time.sleep(PAUSE_SECONDS)
    began = time.monotonic()
    jobs.wait_until(lambda: jobs.ask("/v1/jobs", limit=5), "a list of jobs")
    seen = jobs.events(job_id)[-1]["id"]
    jobs.wait_until(lambda: jobs.has_stepped(job_id, seen=seen), "training after PostgreSQL's death")
    return time.monotonic() - began


def _is_unavailable(answer: httpx.Response) -> bool:
    says_when = answer.headers.get("Retry-After", "").isdecimal()
    return answer.status_code == httpx.codes.SERVICE_UNAVAILABLE and says_when


def embed(client: Client) -> bool:
    """Whether the model in production embeds a new image."""
    content = encode(noise(16, 16, seed=time.monotonic_ns()), "png")
    try:
        return len(client.embed([content])) == 1
    except (ApiError, httpx.TransportError):
        return False
