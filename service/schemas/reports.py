"""Reports of jobs as JSON."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from service.schemas.datasets import DatasetOut
from service.schemas.jobs import JobOut
from service.schemas.models import ModelOut


class Processes(BaseModel):
    """An attempt's part on one node."""

    node: str
    slot: str = Field(description="cpu, cuda or light.")
    num_processes: int
    device: str | None = Field(description="Name of the GPU, or the number of cores; null if the node is gone.")


class Attempt(BaseModel):
    """One of a job's starts, and how it ended."""

    attempt: int
    started_at: datetime
    ended_at: datetime | None
    status: str = Field(description="What the job became: queued if the attempt was lost, running if it goes on.")
    reason: str | None = Field(description="Why, such as rank_killed, node_lost or a failed job's error code.")
    processes: list[Processes]


class Report(BaseModel):
    """A job with what it worked on and what came of it; of an unfinished one what there is so far."""

    job: JobOut
    dataset: DatasetOut | None
    model: ModelOut | None = Field(description="What it made or measured, with its probes.")
    attempts: list[Attempt] = Field(description="Oldest first; empty while it waits for the first.")
    warnings: list[dict[str, Any]] = Field(description="`code` and `message`, such as not_converged.")
    metrics: dict[str, list[float | str | None]] | None = Field(
        description="Of pretraining: columns as /metrics gives them, thinned to at most 1,000 points."
    )
    table: dict[str, Any] | None = Field(
        description="Of an ablation: what its jobs have measured so far, as its result will have it."
    )
