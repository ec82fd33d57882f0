"""A job's events as server-sent events.

Each has its row's id: a client that comes back with `Last-Event-ID` goes on exactly there. Between two looks no
database connection is held, and a database that is away for a while doesn't end the stream.
"""

import threading
import time
from collections.abc import AsyncIterator, Sequence

import anyio
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from service.core import jobs
from service.core.db import AWAY, Database
from service.core.tables import ENDED, Job
from service.schemas.jobs import EventOut

POLL_SECONDS = 0.25
KEEPALIVE_SECONDS = 15.0  # proxies close a connection that is silent for a minute
RETRY_MILLISECONDS = 1000
MAX_EVENTS = 500  # in one look

stopping = threading.Event()  # set when the server is to stop: it waits for the streams to end (service/cli.py)


async def stream_events(database: Database, job_id: str, after: int) -> AsyncIterator[bytes]:
    """The events after the event `after`, as they come, until the job has ended or the server is to stop."""
    yield format_sse_event(retry=RETRY_MILLISECONDS)
    sent_at = time.monotonic()
    is_over = False
    while not is_over and not stopping.is_set():
        events, is_over = await run_in_threadpool(_look, database, job_id, after)
        for event in events:
            yield format_sse_event(event=event.type, id=str(event.id), data_str=event.model_dump_json())
            after, sent_at = event.id, time.monotonic()
        if not events and not is_over:
            if time.monotonic() - sent_at > KEEPALIVE_SECONDS:
                yield KEEPALIVE_COMMENT
                sent_at = time.monotonic()
            await anyio.sleep(POLL_SECONDS)


def _look(database: Database, job_id: str, after: int) -> tuple[Sequence[EventOut], bool]:
    try:
        with database.transaction() as session:
            return read_events(session, job_id, after, MAX_EVENTS)
    except AWAY:
        return [], False


def read_events(session: Session, job_id: str, after: int, limit: int) -> tuple[Sequence[EventOut], bool]:
    """The next events, and whether no more will come: then the job has ended and these are the last."""
    # The status comes first: if the job had ended by then, its last events are found below.
    has_ended = session.scalar(select(Job.status).where(Job.id == job_id)) in ENDED
    events = [EventOut.model_validate(event) for event in jobs.events_after(session, job_id, after, limit)]
    return events, has_ended and len(events) < limit
