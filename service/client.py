"""The HTTP API from Python.

client = Client("http://127.0.0.1:8000")
dataset = client.wait_for_dataset(client.create_dataset(Path("photos.zip"))["id"])
job = client.wait_for_job(client.submit("pretrain", dataset_id=dataset["id"], recipe={"preset": "cpu-small"})["id"])
"""

import io
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import httpx
import numpy as np
from numpy.typing import NDArray

POLL_SECONDS = 0.5
ENDED = ("succeeded", "failed", "cancelled")

JSON = dict[str, Any]
ReportForm = Literal["json", "html", "png"]


class ApiError(Exception):
    """The service answered with a problem; `code` is stable, the text says what to do."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(f"{detail} ({status} {code})")
        self.status = status
        self.code = code
        self.detail = detail


class JobFailed(Exception):
    """A job that was waited for ended without success."""


def _raise_for_problem(response: httpx.Response) -> None:
    if response.is_success:
        return
    if response.headers.get("content-type", "").startswith("application/problem+json"):
        problem = response.json()
        fields = "; ".join(f"{error['field']}: {error['message']}" for error in problem.get("errors", []))
        detail = f"{problem['detail']}: {fields}" if fields else problem["detail"]
        raise ApiError(response.status_code, problem["code"], detail)
    raise ApiError(response.status_code, "unknown", response.text[:500])


class Client:
    """One service. Objects are the API's JSON, as dicts; times out after `timeout_seconds` without an answer.

    Where the service requires keys, each request carries `api_key`.
    """

    def __init__(self, base_url: str, *, api_key: str | None = None, timeout_seconds: float = 120) -> None:
        is_local = httpx.URL(base_url).host in {"127.0.0.1", "::1", "localhost"}  # never behind the environment's proxy
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = httpx.Client(base_url=base_url, headers=headers, timeout=timeout_seconds, trust_env=not is_local)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._http.close()

    def request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        """Any operation; raises ApiError unless it succeeds, httpx.HTTPError when there is no answer."""
        response = self._http.request(method, path, **arguments)
        _raise_for_problem(response)
        return response

    def get(self, path: str, **query: Any) -> JSON:
        """The JSON at a path."""
        found: JSON = self.request("GET", path, params={k: v for k, v in query.items() if v is not None}).json()
        return found

    def pages(self, path: str, **query: Any) -> Iterator[JSON]:
        """Every item of a list, page by page."""
        cursor = None
        while True:
            page = self.get(path, cursor=cursor, **query)
            yield from page["items"]
            cursor = page["next"]
            if cursor is None:
                return

    def create_dataset(self, archive: Path, *, name: str | None = None, on_invalid: str = "reject") -> JSON:
        """Upload a zip, tar, tar.gz or tar.zst of images; folders are classes."""
        with archive.open("rb") as file:
            response = self.request(
                "POST",
                "/v1/datasets",
                data={"name": name or archive.name, "on_invalid": on_invalid},
                files={"file": (archive.name, file)},
            )
        created: JSON = response.json()
        return created

    def submit(self, kind: str, **fields: Any) -> JSON:
        """POST a job; the fields are those of the API: dataset_id, model_id, recipe, resources, metadata."""
        created: JSON = self.request("POST", "/v1/jobs", json={"kind": kind, **fields}).json()
        return created

    def wait_for_job(self, job_id: str, on_progress: Callable[[JSON], None] | None = None) -> JSON:
        """The job once it succeeded; `on_progress` gets it twice a second until then. Raises JobFailed."""
        while True:
            job = self.get(f"/v1/jobs/{job_id}")
            if on_progress:
                on_progress(job)
            if job["status"] == "succeeded":
                return job
            if job["status"] in ENDED:
                error = job["error"] or {"code": job["status"], "message": "on request"}
                raise JobFailed(f"job {job_id} ({job['kind']}) {job['status']}: {error['message']} ({error['code']})")
            time.sleep(POLL_SECONDS)

    def report(self, job_id: str, form: ReportForm) -> bytes:
        """A job's report as the content of a file."""
        return self.request("GET", f"/v1/jobs/{job_id}/report", params={"format": form}).content

    def set_alias(self, alias: str, model_id: str) -> JSON:
        """Have the alias serve a model."""
        changed: JSON = self.request("PUT", f"/v1/aliases/{alias}", json={"model_id": model_id}).json()
        return changed

    def add_images(
        self, images: Sequence[tuple[str, bytes]], *, collection: str, labels: Sequence[str | None] | None = None
    ) -> list[JSON]:
        """Upload (file name, bytes) pairs in one request; an item of the result for each, also for one that failed.

        `service.local_files.batches` cuts many images into requests that the service takes.
        """
        data = {"collection": collection}
        if labels is not None:
            data["labels"] = json.dumps(list(labels))
        files = [("files", image) for image in images]
        items: list[JSON] = self.request("POST", "/v1/images", data=data, files=files).json()["items"]
        return items

    def classify(self, images: Sequence[tuple[str, bytes]], *, probe: str, top_k: int = 5) -> list[JSON]:
        """What (file name, bytes) pairs are taken for by the classifier of the job `probe`: an item each."""
        form = {"probe": probe, "top_k": str(top_k)}
        files = [("files", image) for image in images]
        items: list[JSON] = self.request("POST", "/v1/classify", data=form, files=files).json()["data"]
        return items

    def embed(
        self, images: Sequence[tuple[str, bytes]], *, model: str | None = None, layer: str = "h"
    ) -> NDArray[np.float32]:
        """The vectors, (M, D) float32, of (file name, bytes) pairs; by default of the model in production."""
        form = {"layer": layer} if model is None else {"layer": layer, "model": model}
        response = self.request(
            "POST",
            "/v1/embeddings",
            data=form,
            files=[("files", image) for image in images],
            headers={"Accept": "application/x-npy"},
        )
        vectors: NDArray[np.float32] = np.load(io.BytesIO(response.content))
        return vectors

    def export_collection(self, collection: str, path: Path, **query: Any) -> None:
        """Write a collection's table to a file; `format` is parquet or arrow, `layer` adds vectors."""
        with self._http.stream("GET", f"/v1/collections/{collection}/export", params=query) as response:
            if not response.is_success:
                response.read()
            _raise_for_problem(response)
            with path.open("wb") as file:
                for part in response.iter_bytes():
                    file.write(part)

    def import_collection(self, collection: str, path: Path) -> JSON:
        """Take such a file in; one whose name ends with .arrow is an Arrow stream, another one Parquet."""
        form = "arrow.stream" if path.suffix == ".arrow" else "parquet"
        headers = {"Content-Type": f"application/vnd.apache.{form}"}
        with path.open("rb") as file:
            response = self.request("POST", f"/v1/collections/{collection}/import", content=file, headers=headers)
        imported: JSON = response.json()
        return imported

    def search(self, **query: Any) -> JSON:
        """POST a search by image_id, vector, positive and negative ids, or a batch of `queries`."""
        found: JSON = self.request("POST", "/v1/search", json=query).json()
        return found

    def search_by_image(self, name: str, content: bytes, **form: Any) -> list[JSON]:
        """The nearest neighbours of an image that is not stored."""
        response = self.request("POST", "/v1/search", data=form, files={"file": (name, content)})
        items: list[JSON] = response.json()["items"]
        return items
