"""A service with something of everything: rows in each table, and a blob for each place where rows name one."""

import hashlib
from typing import Any

import numpy as np
from sqlalchemy import func
from sqlalchemy.orm import Session

from models.classifier import HEAD_FILE
from models.collection_map import MAP_FILE
from service.core import jobs, vectors
from service.core.db import Database
from service.core.heads import head_folder
from service.core.keys import create_key
from service.core.maps import map_folder
from service.core.storage import Storage
from service.core.tables import (
    Alias,
    AliasChange,
    AuditEntry,
    Checkpoint,
    Collection,
    CollectionImage,
    Dataset,
    DatasetRejection,
    Image,
    Job,
    Model,
    Node,
    Placement,
)

HOSTILE = "tab\there, back\\slash, new\nline, \N{SNOWMAN}, \\N and \\."  # what COPY's text format has to escape


def fill(database: Database, storage: Storage) -> dict[str, bytes]:
    """Make them; the blobs that rows name, and a log, by key."""
    blobs: dict[str, bytes] = {}

    def blob(key: str, content: bytes) -> dict[str, Any]:
        storage.put(key, content)
        blobs[key] = content
        return {"key": key, "sha256": hashlib.sha256(content).hexdigest(), "num_bytes": len(content)}

    for tenant in ("default", "theirs"):  # the same image twice
        with database.of(tenant).transaction() as session:
            content = b"image"
            file = blob(f"images/{tenant}", content)
            session.add(Image(id=file["sha256"], key=file["key"], format="png", width=1, height=1, num_bytes=5))
            session.add(Collection(id=f"col_{tenant}", name="pets"))
            session.flush()
            about = {"label": HOSTILE, "metadata_": {"x": HOSTILE}, "filename": None}
            session.add(CollectionImage(collection_id=f"col_{tenant}", image_id=file["sha256"], **about))
    with database.of("default").transaction() as session:
        _add_work(session, blob)
        _add_vectors(session, file["sha256"])
        create_key(session, tenant="default", name="k", scopes=["read"])
        session.add(AuditEntry(tenant=None, key_id=None, action="a", resource="r", request_id="q", status=401))
        session.add(Node(name="n", address="::1", slots={"cpu": 1}, devices={}, versions={}))
    return blobs


def _add_work(session: Session, blob: Any) -> None:
    archive = blob("datasets/ds_1/archive", b"archive")
    dataset = {"id": "ds_1", "name": HOSTILE, "status": "ready", "on_invalid": "skip", "archive_name": "a.zip"}
    files = {"images.npy": blob("datasets/ds_1/pack-1/images.npy", b"pixels")}
    sums = {"archive_key": archive["key"], "archive_sha256": archive["sha256"]}
    session.add(Dataset(**dataset, **sums, files=files, classes=["a", HOSTILE]))
    session.flush()
    session.add(DatasetRejection(dataset_id="ds_1", position=0, name=HOSTILE, code="c", detail="d"))
    pretraining = jobs.submit(session, kind="pretrain", recipe={"seed": 0}, dataset_id="ds_1", idempotency_key="once")
    jobs.start(session, session.get_one(Job, pretraining.id, with_for_update=True), ["n"])
    token = {"node_name": "n", "slot": "cpu", "num_slots": 1, "token": "t", "lease_until": func.now()}
    session.add(Placement(job_id=pretraining.id, attempt=1, node_rank=0, claimed_at=func.now(), **token))
    state = blob(f"jobs/{pretraining.id}/checkpoints/step-00000010-1.pt", b"state")
    session.add(Checkpoint(job_id=pretraining.id, step=10, attempt=1, **state))
    blob(jobs.log_key(pretraining.id, 1, 0), b"printed")
    onnx = {"model.onnx": blob("models/mdl_1/model.onnx", b"network")}
    columns: dict[str, Any] = {"recipe": {}, "preprocessing": {}, "layers": {"h": 3}, "parity_cosine": 0.1 + 0.2}
    session.add(Model(id="mdl_1", job_id=pretraining.id, dataset_id="ds_1", files=onnx, **columns))
    session.flush()
    _add_ended(session, "linear_probe", lambda job: {"files": {HEAD_FILE: _seen(blob, head_folder, job, HEAD_FILE)}})
    _add_ended(session, "map", lambda job: {"map": _seen(blob, map_folder, job, MAP_FILE)})
    session.add(Alias(name="production", model_id="mdl_1"))
    session.add(AliasChange(alias="production", model_id="mdl_1", previous_model_id=None))


def _add_ended(session: Session, kind: str, result: Any) -> None:
    recipe = {"collection_id": "col_default"} if kind == "map" else {}
    job = jobs.submit(session, kind=kind, recipe=recipe, dataset_id="ds_1", model_id="mdl_1")
    started = jobs.start(session, session.get_one(Job, job.id, with_for_update=True))
    jobs.succeed(session, started, result(started))


def _seen(blob: Any, folder: Any, job: Job, name: str) -> dict[str, Any]:
    """What a result shows of a file: its key follows from the job."""
    file: dict[str, Any] = blob(f"{folder(job.id, job.attempt)}/{name}", f"of {job.kind}".encode())
    return {name: file[name] for name in ("sha256", "num_bytes")}


def _add_vectors(session: Session, image_id: str) -> None:
    table = vectors.ensure_table(session, session.get_one(Model, "mdl_1"), "h")
    values = np.array([[1 / 3, np.float32(1e-38), -7]], np.float32)
    vectors.insert_vectors(session, table, [image_id], values)


def index_vectors(database: Database) -> None:
    """Build the index of the vectors."""
    with database.transaction() as session:
        table = vectors.find_table(session, "mdl_1", "h")
    assert table is not None
    vectors.build_index(database.engine, table)
