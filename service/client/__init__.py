"""The HTTP API from Python.

client = Client("http://127.0.0.1:8000")
dataset = client.wait_for_dataset(client.create_dataset(Path("photos.zip"))["id"])
job = client.wait_for_job(client.submit("pretrain", dataset_id=dataset["id"], recipe={"preset": "cpu-small"})["id"])
vectors = client.embed([Path("cat.jpg"), Path("dog.jpg")], model=job["result"]["model_id"])  # (2, D) float32

`AsyncClient` has the same methods to await. What each does is written once: `calls/` builds requests and reads answers,
`operations.py` lists them as methods, `blocking.py` and `asynchronous.py` send them.
"""

from service.client.asynchronous import AsyncClient
from service.client.blocking import Client
from service.client.calls.jobs import ReportForm
from service.client.errors import ApiError, JobFailed
from service.client.results import JSON, Dataset, Job, Model, ReadyDataset, SucceededJob

__all__ = [
    "JSON",
    "ApiError",
    "AsyncClient",
    "Client",
    "Dataset",
    "Job",
    "JobFailed",
    "Model",
    "ReadyDataset",
    "ReportForm",
    "SucceededJob",
]
