"""Jobs as JSON."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field, computed_field

from service.schemas.datasets import Failure
from service.schemas.fields import FromRow

Kind = Literal[
    "pretrain",
    "finetune",
    "linear_probe",
    "knn_probe",
    "layer_sweep",
    "transform_probe",
    "export",
    "ablation",
    "index",
    "map",
    "ingest",
]
Status = Literal["queued", "running", "cancelling", "succeeded", "failed", "cancelled"]


class JobOut(FromRow):
    """A job and how it goes."""

    id: str
    kind: Kind
    status: Status
    dataset_id: str | None
    model_id: str | None = Field(description="The model it works on; the one it made is in `result.model_id`.")
    recipe: dict[str, Any] = Field(description="Complete: with the preset and all defaults filled in.")
    resources: dict[str, Any]
    metadata: dict[str, Any] = Field(validation_alias="metadata_")
    parent_id: str | None = Field(description="The ablation that it is a part of.")
    cell: dict[str, Any] | None = Field(description="Of a part of an ablation: `values` of its fields, and `seed`.")
    attempt: int = Field(description="How often it was started.")
    progress: dict[str, Any] | None = Field(description="`step` of `steps`, and what its stage measures.")
    result: dict[str, Any] | None
    error: Failure | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @computed_field(description="Time left in this stage, while it runs.")
    def eta_seconds(self) -> float | None:
        """Of the newest progress."""
        return (self.progress or {}).get("eta_seconds") if self.status == "running" else None


class EventOut(FromRow):
    """Something that happened to a job."""

    id: int = Field(description="Grows with time; pass it as `after`, or as `Last-Event-ID`, to go on from here.")
    attempt: int
    type: str = Field(description="status, stage, metrics, checkpoint or warning.")
    data: dict[str, Any]
    at: datetime


class Events(BaseModel):
    """A part of a job's events."""

    items: list[EventOut]
    next: int | None = Field(
        description="The `after` of the following part; null once the job has ended and no more come."
    )


class CheckpointOut(FromRow):
    """A training state in storage, from which a job that is resumed goes on."""

    step: int
    attempt: int
    sha256: str
    num_bytes: int
    created_at: datetime
