"""What a job's process measured on its way, as columns."""

from collections.abc import Sequence
from itertools import pairwise

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.core.tables import JobEvent

Row = dict[str, float | str | None]
Columns = dict[str, list[float | str | None]]


def read_metrics(session: Session, job_id: str, most: int | None = None) -> Columns:
    """Columns of equal length: step, loss, attempt, ...; null where an event lacks a measure. At most `most` points."""
    statement = select(JobEvent.data, JobEvent.attempt).where(JobEvent.job_id == job_id, JobEvent.type == "metrics")
    rows: list[Row] = [
        {**data, "attempt": attempt} for data, attempt in session.execute(statement.order_by(JobEvent.id))
    ]
    if most is not None:
        rows = thinned(rows, most)
    names = {name: None for row in rows for name in row}
    return {name: [row.get(name) for row in rows] for name in names}


def thinned(rows: Sequence[Row], most: int) -> list[Row]:
    """At most `most` rows: of each stretch its last one, and of a measure that this one lacks the last value before.

    Some measures come in one event of ten (trainer/report.py): every tenth row might hold none of them.
    """
    num_points = min(most, len(rows))
    bounds = [len(rows) * i // num_points for i in range(num_points + 1)] if rows else []
    stretches = (rows[first:last] for first, last in pairwise(bounds))
    return [{name: value for row in stretch for name, value in row.items()} for stretch in stretches]
