"""The list of jobs, live: those of its first page, and older ones that hadn't ended, whenever one changes.

A look asks for ids and the versions of their rows (PostgreSQL's xmin, which every update renews), and reads only those
jobs that have another version than what was sent: most looks read a few numbers.
"""

import time
from collections.abc import Sequence

from fastapi.sse import format_sse_event
from sqlalchemy import ColumnElement, Select, literal_column, select
from sqlalchemy.orm import Session

from service.core.db import AWAY, Database
from service.core.tables import ENDED, Job
from service.schemas.jobs import JobOut

LOOK_SECONDS = 0.5
MAX_SECONDS = 300.0  # then the client comes back, and its key is looked at again

VERSION: ColumnElement[str] = literal_column("job.xmin::text").label("version")


class JobsLook:
    """The newest jobs of a statement, at first all of them, then those that changed; oldest first."""

    def __init__(self, database: Database, statement: Select[Job], limit: int) -> None:
        self.database = database
        self.newest = statement.with_only_columns(Job.id, VERSION).order_by(Job.id.desc()).limit(limit)
        self.ends_at = time.monotonic() + MAX_SECONDS
        self.sent: dict[str, str] = {}  # id -> version
        self.unfinished: set[str] = set()

    def __call__(self) -> tuple[Sequence[bytes], float | None]:
        """The jobs that changed since the last look."""
        if time.monotonic() > self.ends_at:
            return [], None
        try:
            with self.database.transaction() as session:
                changed = self._changed(session)
        except AWAY:
            return [], LOOK_SECONDS
        return [_message(job) for job in changed], LOOK_SECONDS

    def _changed(self, session: Session) -> Sequence[Job]:
        versions = _versions(session, self.newest)
        if older := self.unfinished - versions.keys():
            versions |= _versions(session, select(Job.id, VERSION).where(Job.id.in_(older)))
        changed = [job_id for job_id, version in versions.items() if self.sent.get(job_id) != version]
        if not changed:
            return []
        jobs = session.scalars(select(Job).where(Job.id.in_(changed)).order_by(Job.id)).all()
        self.sent = versions
        self.unfinished -= set(changed)
        self.unfinished |= {job.id for job in jobs if job.status not in ENDED}
        return jobs


def _versions(session: Session, statement: Select[str, str]) -> dict[str, str]:
    return {row.id: row.version for row in session.execute(statement)}


def _message(job: Job) -> bytes:
    return format_sse_event(event="job", data_str=JobOut.model_validate(job).model_dump_json())
