"""Jobs: pretraining, probes and indexing."""

import hashlib
import json
from typing import Annotated

from fastapi import APIRouter, Body, Header, Query, Request, Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from service import event_stream
from service.core import jobs, tracing
from service.core.errors import NotFound
from service.core.keys import READ, TRAIN
from service.core.quotas import Limits, check_gpu_seconds, check_jobs
from service.core.tables import Job
from service.deps import CallerDep, DatabaseDep, SessionDep
from service.live_jobs import JobsLook
from service.refusals import may
from service.schemas.fields import Id, JobId
from service.schemas.job_requests import AnyJobRequest, JobRequest
from service.schemas.jobs import JobOut, Kind, Status
from service.schemas.links import created, links_to, listed
from service.schemas.page import IdCursor, Limit, Page, read_rows
from service.scopes import requires
from service.submission import check_request

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

OF_ONE = ("get_job", "cancel_job", "list_events", "get_metrics", "get_log", "list_checkpoints", "get_report")

EXAMPLES = {
    "pretrain": {
        "summary": "Pretrain with a preset",
        "value": {
            "kind": "pretrain",
            "dataset_id": "ds_01jcz0000000000000000000vv",
            "recipe": {"preset": "cpu-small", "schedule": {"epochs": 10}},
        },
    },
    "ablation": {
        "summary": "Vary normalisation and temperature (Table 5)",
        "value": {
            "kind": "ablation",
            "dataset_id": "ds_01jcz0000000000000000000vv",
            "recipe": {
                "base": {"preset": "cpu-small"},
                "grid": {"loss.normalize": [True, False], "loss.temperature": [0.1, 1.0, 10.0]},
                "seeds": [0, 1],
            },
        },
    },
    "linear_probe": {
        "summary": "Measure a model",
        "value": {
            "kind": "linear_probe",
            "dataset_id": "ds_01jcz0000000000000000000vv",
            "model_id": "mdl_01jcz0000000000000000000ww",
        },
    },
    "finetune": {
        "summary": "Fine-tune a model on a tenth of the labels (Table 7)",
        "value": {
            "kind": "finetune",
            "dataset_id": "ds_01jcz0000000000000000000vv",
            "model_id": "mdl_01jcz0000000000000000000ww",
            "recipe": {"label_fraction": 0.1},
        },
    },
    "layer_sweep": {
        "summary": "Compare the layers of a model: is h the one to take?",
        "value": {
            "kind": "layer_sweep",
            "dataset_id": "ds_01jcz0000000000000000000vv",
            "model_id": "mdl_01jcz0000000000000000000ww",
        },
    },
}

IdempotencyKey = Annotated[
    str | None,
    Header(
        pattern=r"^[\x21-\x7e]{1,255}$",
        description="Yours to choose: the same key and request again gives the same job, not a second one.",
    ),
]


@router.post(
    "",
    status_code=202,
    responses={**created(202, links_to("job_id", *OF_ONE)), **may(409)},
)
@requires(TRAIN)
def create_job(
    request: Annotated[JobRequest, Body(openapi_examples=EXAMPLES)],
    response: Response,
    session: SessionDep,
    caller: CallerDep,
    idempotency_key: IdempotencyKey = None,
) -> JobOut:
    """Queue a job. 202 means that it is stored: it runs as soon as a worker has room, whatever fails until then."""
    job = _submit(session, caller.limits, request, idempotency_key)
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    return JobOut.model_validate(job)


def _submit(session: Session, limits: Limits, request: AnyJobRequest, idempotency_key: str | None) -> Job:
    fields = request.model_dump(mode="json")
    request_sha256 = hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
    if idempotency_key is not None:  # a repetition succeeds even if what it names has changed since
        same = select(Job).where(Job.idempotency_key == idempotency_key, Job.request_sha256 == request_sha256)
        if job := session.scalar(same):
            return job
    check_request(session, request)
    _check_quotas(session, limits, request.resources.device)
    with tracing.span("submit job", kind="producer", job_kind=request.kind) as span:
        job = jobs.submit(session, **fields, idempotency_key=idempotency_key, request_sha256=request_sha256)
        span.note(job_id=job.id)
    return job


@router.get(
    "",
    response_model=Page[JobOut],
    responses={
        200: {**listed("job_id", *OF_ONE)[200], "content": {event_stream.MEDIA_TYPE: {"schema": {"type": "string"}}}}
    },
)
@requires(READ)
def list_jobs(
    request: Request,
    session: SessionDep,
    database: DatabaseDep,
    kind: Annotated[Kind | None, Query(description="Only of this kind.")] = None,
    status: Annotated[Status | None, Query(description="Only in this state.")] = None,
    parent_id: Annotated[Id | None, Query(description="Only the parts of this ablation.")] = None,
    cursor: IdCursor = None,
    limit: Limit = 50,
) -> Page[JobOut] | Response:
    """All jobs, newest first: a list, or with `Accept: text/event-stream` its first page as it changes.

    A stream begins with the jobs of the page, then tells each that is new or has changed (`event: job`). It ends after
    five minutes; a client that wants more connects again, and gets the page anew.
    """
    statement = select(Job)
    if kind is not None:
        statement = statement.where(Job.kind == kind)
    if status is not None:
        statement = statement.where(Job.status == status)
    if parent_id is not None:
        statement = statement.where(Job.parent_id == parent_id)
    if event_stream.is_wanted(request):
        return event_stream.stream(JobsLook(database, statement, limit))
    rows, following = read_rows(session, statement, Job.id, cursor=cursor, limit=limit)
    return Page[JobOut](items=[JobOut.model_validate(row) for row in rows], next=following)


@router.get("/{job_id}", responses=may(404))
@requires(READ)
def get_job(job_id: JobId, session: SessionDep) -> JobOut:
    """A job and how it goes."""
    return JobOut.model_validate(find_job(session, job_id))


@router.post(
    "/{job_id}/cancel",
    status_code=202,
    responses={202: {"links": links_to("job_id", "get_job", "resume_job")}, **may(404, 409)},
)
@requires(TRAIN)
def cancel_job(job_id: JobId, session: SessionDep) -> JobOut:
    """Stop a job: a queued one at once, a running one within seconds. It can be resumed."""
    return JobOut.model_validate(jobs.request_cancel(session, job_id))


@router.post(
    "/{job_id}/resume",
    status_code=202,
    responses={202: {"links": links_to("job_id", "get_job", "cancel_job")}, **may(404, 409)},
)
@requires(TRAIN)
def resume_job(job_id: JobId, session: SessionDep, caller: CallerDep) -> JobOut:
    """Queue a failed or cancelled job again; it goes on from its newest checkpoint."""
    _check_quotas(session, caller.limits, find_job(session, job_id).resources.get("device", "auto"))
    return JobOut.model_validate(jobs.resume(session, job_id))


def _check_quotas(session: Session, limits: Limits, device: str) -> None:
    check_jobs(session, limits)
    if device != "cpu":
        check_gpu_seconds(session, limits)


def find_job(session: Session, job_id: str) -> Job:
    """The row of a job. Raises NotFound."""
    job = session.get(Job, job_id)
    if job is None:
        raise NotFound(f"there is no job {job_id}")
    return job
