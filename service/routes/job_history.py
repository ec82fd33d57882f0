"""What happened in a job: its events, metrics, log and checkpoints."""

from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from sqlalchemy import select
from starlette.responses import PlainTextResponse, Response

from service import event_stream
from service.core import jobs
from service.core.errors import BadRequest, NotFound
from service.core.keys import READ
from service.core.tables import Checkpoint, Placement
from service.deps import DatabaseDep, SessionDep, SettingsDep, StorageDep
from service.downloads import send_blob
from service.event_stream import EventLook, read_events
from service.metrics import Columns, read_metrics
from service.refusals import may
from service.routes.jobs import find_job
from service.schemas.fields import JobId
from service.schemas.jobs import CheckpointOut, Events
from service.schemas.page import MAX_LIMIT, Page
from service.scopes import requires

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["jobs"])

MAX_EVENT_ID = 2**63 - 1


@router.get(
    "/events",
    response_model=Events,
    responses={
        200: {"content": {event_stream.MEDIA_TYPE: {"schema": {"type": "string"}}}},
        204: {"description": "A stream that was to go on after the job's last event: there is nothing more to come."},
        **may(400, 404),
    },
)
@requires(READ)
def list_events(
    job_id: JobId,
    request: Request,
    session: SessionDep,
    database: DatabaseDep,
    after: Annotated[int, Query(ge=0, le=MAX_EVENT_ID, description="Id of the last event that you have.")] = 0,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Events at most; a stream has no limit.")] = 100,
    last_event_id: Annotated[str | None, Header(description="What `after` is to a list, for a stream.")] = None,
) -> Events | Response:
    """A job's events, oldest first: a list, or with `Accept: text/event-stream` a stream until the job has ended."""
    find_job(session, job_id)
    if not event_stream.is_wanted(request):
        events, is_over = read_events(session, job_id, after, limit)
        return Events(items=list(events), next=None if is_over else (events[-1].id if events else after))
    if last_event_id is not None:
        after = _event_id(last_event_id)
        if read_events(session, job_id, after, 1) == ([], True):
            return Response(status_code=204)  # tells a browser's EventSource not to connect again
    return event_stream.stream(EventLook(database, job_id, after))


def _event_id(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text[:20]) > MAX_EVENT_ID:
        raise BadRequest(f"Last-Event-ID: the id of an event, a whole number, not {text[:50]!r}")
    return int(text)


@router.get("/metrics", responses=may(404))
@requires(READ)
def get_metrics(job_id: JobId, session: SessionDep) -> Columns:
    """What training measured, as columns of equal length: step, loss, learning_rate, images_per_second, attempt, ..."""
    find_job(session, job_id)
    return read_metrics(session, job_id)


@router.get("/log", response_class=PlainTextResponse, responses=may(404, 416))
@requires(READ)
def get_log(
    job_id: JobId,
    session: SessionDep,
    storage: StorageDep,
    settings: SettingsDep,
    attempt: Annotated[int | None, Query(ge=1, le=MAX_LIMIT, description="Default: the newest.")] = None,
    node_rank: Annotated[int, Query(ge=0, le=MAX_LIMIT, description="Of several nodes, which one.")] = 0,
) -> Response:
    """What the process of an attempt printed. It is stored when the attempt ends; empty until there is something."""
    job = find_job(session, job_id)
    number = attempt or job.attempt
    if number > job.attempt:
        raise NotFound(f"the job {job_id} had {job.attempt} attempts; there is no attempt {number}")
    placement = session.get(Placement, (job_id, number, node_rank))
    if placement is not None:
        live = settings.runs_dir(placement.node_name) / job_id / str(number) / "log.txt"
        if live.is_file():  # it runs on this machine
            return PlainTextResponse(live.read_bytes())
    try:
        return send_blob(storage, jobs.log_key(job_id, number, node_rank), media_type="text/plain; charset=utf-8")
    except NotFound:
        return PlainTextResponse("")


@router.get("/checkpoints", responses=may(404))
@requires(READ)
def list_checkpoints(job_id: JobId, session: SessionDep) -> Page[CheckpointOut]:
    """The training states from which the job would go on, newest first: at most two, once it has succeeded one."""
    find_job(session, job_id)
    statement = select(Checkpoint).where(Checkpoint.job_id == job_id).order_by(Checkpoint.step.desc())
    items = [CheckpointOut.model_validate(row) for row in session.scalars(statement)]
    return Page[CheckpointOut](items=items, next=None)
