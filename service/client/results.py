"""The API's answers as types of dicts; a test keeps their keys equal to those of the API's own models."""

from typing import Any, TypedDict

JSON = dict[str, Any]


class Failure(TypedDict):
    """Why something failed; `code` is for programs."""

    code: str
    message: str


class _AnyDataset(TypedDict):
    id: str
    name: str
    status: str
    on_invalid: str
    archive_name: str
    archive_sha256: str
    error: Failure | None
    job_id: str | None
    created_at: str


class Dataset(_AnyDataset):
    """Images to train on; what was counted is None until its status is `ready`."""

    num_images: int | None
    num_duplicates: int | None
    num_rejected: int | None
    classes: list[str] | None
    splits: JSON | None
    image_sizes: JSON | None


class ReadyDataset(_AnyDataset):
    """Images to train on that were validated and packed."""

    num_images: int
    num_duplicates: int
    num_rejected: int
    classes: list[str]
    splits: JSON
    image_sizes: JSON


class _AnyJob(TypedDict):
    id: str
    kind: str
    status: str
    dataset_id: str | None
    model_id: str | None
    recipe: JSON
    resources: JSON
    metadata: JSON
    parent_id: str | None
    cell: JSON | None
    attempt: int
    progress: JSON | None
    error: Failure | None
    created_at: str
    started_at: str | None
    finished_at: str | None
    eta_seconds: float | None


class Job(_AnyJob):
    """A job and how it goes."""

    result: JSON | None


class SucceededJob(_AnyJob):
    """A job that has its result."""

    result: JSON


class Model(TypedDict):
    """An exported encoder; `layers` are the sizes of the vectors that it gives."""

    id: str
    job_id: str | None
    dataset_id: str | None
    recipe: JSON
    preprocessing: JSON
    layers: dict[str, int]
    parity_cosine: float
    variants: JSON
    files: JSON
    probes: JSON
    aliases: list[str]
    indexes: list[JSON]
    created_at: str


class UploadedImage(TypedDict):
    """What became of one file: status created, exists, failed or rejected."""

    filename: str | None
    status: str
    id: str | None
    label: str | None
    error: JSON | None
    near_duplicate: JSON | None


class Hit(TypedDict):
    """An image that a search found; `score` is the cosine similarity of its h and the query's."""

    id: str
    score: float
    label: str | None
    metadata: JSON
    filename: str | None


class ClassifiedImage(TypedDict):
    """What an image is taken for, likeliest first; `classes` is None where it has an `error`."""

    index: int
    classes: list[JSON] | None
    error: Failure | None
