"""Server-sent events: what a look finds, as it comes.

A job's events have their rows' ids: a client that comes back with `Last-Event-ID` goes on exactly there. Between two
looks no database connection is held, and a database that is away for a while doesn't end the stream.
"""

import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence

import anyio
from fastapi import Request
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from service.core import jobs
from service.core.db import AWAY, Database
from service.core.tables import ENDED, Job
from service.schemas.jobs import EventOut

MEDIA_TYPE = "text/event-stream"
NO_BUFFERING = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
POLL_SECONDS = 0.25
KEEPALIVE_SECONDS = 15.0  # proxies close a connection that is silent for a minute
RETRY_MILLISECONDS = 1000
MAX_EVENTS = 500  # in one look

# Messages that are new, and how long to wait before the next look; None: no more will come.
Look = Callable[[], tuple[Sequence[bytes], float | None]]

stopping = threading.Event()  # set when the server is to stop: it waits for the streams to end (service/cli.py)


def is_wanted(request: Request) -> bool:
    """Whether the client asked for a stream."""
    return MEDIA_TYPE in request.headers.get("accept", "")


def stream(look: Look) -> StreamingResponse:
    """The messages of a look, as they come, until it says that no more will or the server is to stop."""
    return StreamingResponse(_messages(look), media_type=MEDIA_TYPE, headers=NO_BUFFERING)


async def _messages(look: Look) -> AsyncIterator[bytes]:
    yield format_sse_event(retry=RETRY_MILLISECONDS)
    sent_at = time.monotonic()
    pause_seconds: float | None = 0.0
    while pause_seconds is not None and not stopping.is_set():
        messages, pause_seconds = await run_in_threadpool(look)
        for message in messages:
            yield message
            sent_at = time.monotonic()
        if pause_seconds:
            if time.monotonic() - sent_at > KEEPALIVE_SECONDS:
                yield KEEPALIVE_COMMENT
                sent_at = time.monotonic()
            await anyio.sleep(pause_seconds)


class EventLook:
    """A job's events after one of them, until the job has ended."""

    def __init__(self, database: Database, job_id: str, after: int) -> None:
        self.database = database
        self.job_id = job_id
        self.after = after

    def __call__(self) -> tuple[Sequence[bytes], float | None]:
        """The next events; where there were some, more may wait already."""
        try:
            with self.database.transaction() as session:
                events, is_over = read_events(session, self.job_id, self.after, MAX_EVENTS)
        except AWAY:
            return [], POLL_SECONDS
        self.after = events[-1].id if events else self.after
        pause_seconds = 0.0 if events else POLL_SECONDS
        return [_message(event) for event in events], None if is_over else pause_seconds


def _message(event: EventOut) -> bytes:
    return format_sse_event(event=event.type, id=str(event.id), data_str=event.model_dump_json())


def read_events(session: Session, job_id: str, after: int, limit: int) -> tuple[Sequence[EventOut], bool]:
    """The next events, and whether no more will come: then the job has ended and these are the last."""
    # The status comes first: if the job had ended by then, its last events are found below.
    has_ended = session.scalar(select(Job.status).where(Job.id == job_id)) in ENDED
    events = [EventOut.model_validate(event) for event in jobs.events_after(session, job_id, after, limit)]
    return events, has_ended and len(events) < limit
