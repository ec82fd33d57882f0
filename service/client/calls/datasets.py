"""Data sets: archives of images to train on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, cast

from service.client.call import Call, Listing, Pause, Steps, read_json, read_nothing
from service.client.calls.jobs import get_job
from service.client.errors import JobFailed
from service.client.results import Dataset, Job, ReadyDataset
from service.client.sending import CountedFile, Progress
from service.local_files import readable

POLL_SECONDS = 0.5


def create_dataset(
    archive: Path,
    *,
    name: str | None = None,
    on_invalid: Literal["reject", "skip"] = "reject",
    on_progress: Progress | None = None,
) -> Steps[Dataset]:
    """Upload a zip, tar, tar.gz or tar.zst of images; folders are classes. Its status is `validating` at first.

    `on_progress` gets the bytes sent and the bytes in all. Never sent twice: a second one would be another data set.
    """
    form = {"name": name or readable(archive.name), "on_invalid": on_invalid}
    with CountedFile(archive, on_progress or _untold) as file:
        files = {"file": (readable(archive.name), file)}
        created: Dataset = yield Call("POST", "/v1/datasets", read_json, {"data": form, "files": files})
    return created


def _untold(_done: int, _total: int) -> None:
    """Nobody asked."""


def get_dataset(dataset_id: str) -> Call[Dataset]:
    """A data set as it is now."""
    return Call("GET", f"/v1/datasets/{dataset_id}", read_json)


def wait_for_dataset(dataset_id: str, on_progress: Callable[[Job], None] | None = None) -> Steps[ReadyDataset]:
    """The data set once it is ready; `on_progress` gets the job that validates it, twice a second until then.

    Raises JobFailed when its images can't be used, with the reason.
    """
    while True:
        dataset: Dataset = yield get_dataset(dataset_id)
        if on_progress and dataset["job_id"]:
            on_progress((yield get_job(dataset["job_id"])))
        if dataset["status"] == "ready":
            return cast("ReadyDataset", dataset)
        if dataset["status"] == "failed":
            error = dataset["error"] or {"code": "failed", "message": "no reason is known"}
            raise JobFailed(f"data set {dataset_id} failed: {error['message']} ({error['code']})")
        yield Pause(POLL_SECONDS)


def delete_dataset(dataset_id: str) -> Call[None]:
    """Delete a data set that no unfinished job works on; its models stay."""
    return Call("DELETE", f"/v1/datasets/{dataset_id}", read_nothing)


def list_datasets(**query: Any) -> Listing:
    """All data sets, newest first."""
    return Listing("/v1/datasets", query)


def list_rejected(dataset_id: str, **query: Any) -> Listing:
    """The files of the archive that are not in the data set, and why."""
    return Listing(f"/v1/datasets/{dataset_id}/rejected", query)
