"""A service to ask: its API alone, two tenants who have one of everything, and nothing that takes their jobs."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from models.classifier import HEAD_FILE, Classifier
from service.core import jobs
from service.core.db import Database
from service.core.heads import head_folder
from service.core.schema import migrate
from service.core.storage import LocalStorage, sha256_of
from tests.service.conftest import begin
from tests.service.report.samples import linear_probe
from tests.service.routes.gallery import picture, upload
from tests.service.routes.two_tenants import COLLECTION, Tenant, furnish
from tests.stack import environment, free_port
from tests.waiting import wait_until

TENANTS = ("ours", "theirs")
KEYS_FILE = "keys.json"  # in the form of the Web Fuzzing Commons
LOG_FILE = "api.log"
CLASSES = ("cat", "dog", "eel")


@contextmanager
def running_world(folder: Path, database_url: str, redis_url: str) -> Iterator[str]:
    """The address of an API on an empty database, furnished; its tenants' keys are in `folder`."""
    migrate(database_url)
    port = free_port()
    command = [sys.executable, "-P", "-m", "service.cli", "api", "--port", str(port)]
    settings = {"database_url": database_url, "redis_url": redis_url, "data_dir": str(folder), "auth": "on"}
    patience = {"max_wait_seconds": "60"}  # its load is not the question here
    with (folder / LOG_FILE).open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment(**settings, **patience), cwd=folder)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: process.poll() is not None or _answers(url), timeout_seconds=60)
        with closing(Database(database_url)) as database:
            storage = LocalStorage(folder / "storage")
            keys = [_furnished(name, url, database, storage) for name in TENANTS]
        (folder / KEYS_FILE).write_text(json.dumps({"auth": keys}))
        yield url
    finally:
        process.terminate()
        process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").is_success
    except httpx.TransportError:
        return False


def _furnished(name: str, url: str, database: Database, storage: LocalStorage) -> dict[str, Any]:
    """A tenant's key, once there is one of all that it can have."""
    with httpx.Client(base_url=url, timeout=30) as api:
        tenant = furnish(name, api, database, storage)
        labels = [CLASSES[i % len(CLASSES)] for i in range(8)]
        upload(api, [picture(i) for i in range(8)], collection=COLLECTION, labels=labels, metadata={"n": 1})
        _leave_classifier(tenant, database, storage)
        header = {"name": "Authorization", "value": api.headers["Authorization"]}
    return {"name": name, "fixedHeaders": [header]}


def _leave_classifier(tenant: Tenant, database: Database, storage: LocalStorage) -> None:
    """A probe that has succeeded, of the model in production's pixels."""
    with database.of(tenant.name).transaction() as session:
        model_id = tenant.api.get("/v1/aliases").json()["items"][-1]["model_id"]
        job = jobs.submit(
            session, kind="linear_probe", recipe={}, model_id=model_id, dataset_id=tenant.ids["dataset_id"]
        )
        begin(session, job.id)
        path = storage.root / "head.npz"
        weights = np.eye(len(CLASSES), 192, dtype=np.float32)
        Classifier(weights, np.zeros(len(CLASSES), np.float32), CLASSES, "h").save(path)
        key = f"{head_folder(job.id, job.attempt)}/{HEAD_FILE}"
        storage.put(key, path.read_bytes())
        scores = linear_probe(CLASSES)["job"]["result"]
        jobs.succeed(session, job, scores | {"files": {HEAD_FILE: {"key": key, "sha256": sha256_of(path)}}})
        path.unlink()
