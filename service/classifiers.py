"""The classifiers that serve: found by their job's id at each request, loaded once, checked before they are."""

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from models.classifier import HEAD_FILE, Classifier
from service.core.db import Database
from service.core.errors import Conflict, Invalid, NotFound, Unavailable
from service.core.heads import head_folder
from service.core.storage import Storage, sha256_of
from service.core.tables import Job, Model

KINDS = ("linear_probe", "finetune")
MAX_LOADED = 16  # of 1,000 classes on ResNet-50's h each takes 8 MB


@dataclass(frozen=True)
class Head:
    """A classifier in storage, and the model whose layer it reads."""

    model_id: str
    key: str
    sha256: str


class ClassifierCache:
    """At most MAX_LOADED classifiers, the least recently used one leaves first. For one event loop."""

    def __init__(self, database: Database, storage: Storage) -> None:
        self._database = database
        self._storage = storage
        self._loaded: OrderedDict[str, Classifier] = OrderedDict()  # by sha256

    async def get(self, tenant: str, job_id: str) -> tuple[Classifier, str]:
        """The classifier that a job of the tenant made, and the id of its model.

        Raises NotFound, Invalid (`not_a_classifier`), Conflict (`probe_not_succeeded`, `no_head`, `model_deleted`) or
        Unavailable (`head_damaged`).
        """
        head = await run_in_threadpool(self._find, tenant, job_id)
        if head.sha256 not in self._loaded:  # two that ask at once both load it: it is small
            self._loaded[head.sha256] = await run_in_threadpool(self._load, head)
        self._loaded.move_to_end(head.sha256)
        classifier = self._loaded[head.sha256]
        while len(self._loaded) > MAX_LOADED:
            self._loaded.popitem(last=False)
        return classifier, head.model_id

    def _find(self, tenant: str, job_id: str) -> Head:
        with self._database.of(tenant).transaction() as session:
            return find_head(session, job_id)

    def _load(self, head: Head) -> Classifier:
        with TemporaryDirectory() as folder:
            try:
                path = self._storage.fetch(head.key, Path(folder) / HEAD_FILE)
                is_whole = sha256_of(path) == head.sha256
            except NotFound:
                is_whole = False
            if not is_whole:
                raise Unavailable(f"the classifier {head.key} is lost or damaged in storage", code="head_damaged")
            return Classifier.load(path)


def find_head(session: Session, job_id: str) -> Head:
    """Where the classifier of a job is. Raises as `ClassifierCache.get` does."""
    job = session.get(Job, job_id)
    if job is None:
        raise NotFound(f"there is no job {job_id}")
    if job.kind not in KINDS:
        message = f"a job of kind {' or '.join(KINDS)}, not {job.kind}"
        raise Invalid(f"probe: {message}", code="not_a_classifier", errors=[{"field": "probe", "message": message}])
    if job.status != "succeeded":
        raise Conflict(f"the job {job_id} is {job.status}; it classifies once it succeeded", code="probe_not_succeeded")
    result = job.result or {}
    model_id = result["model_id"] if job.kind == "finetune" else job.model_id
    model = session.get(Model, model_id) if model_id else None
    if model is None:
        raise Conflict(f"the model of the job {job_id} was deleted", code="model_deleted")
    if job.kind == "finetune":
        file = model.files[HEAD_FILE]
        return Head(model.id, file["key"], file["sha256"])
    return Head(model.id, f"{head_folder(job.id, job.attempt)}/{HEAD_FILE}", _file_of(job_id, result)["sha256"])


def _file_of(job_id: str, result: dict[str, Any]) -> dict[str, Any]:
    if "files" not in result:
        raise Conflict(f"the job {job_id} kept no classifier: an older release ran it; run it again", code="no_head")
    file: dict[str, Any] = result["files"][HEAD_FILE]
    return file
