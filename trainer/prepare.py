"""Fill a run folder with all that its process needs."""

import json
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from service.core import jobs
from service.core.errors import NotFound
from service.core.settings import Settings
from service.core.storage import sha256_of
from service.core.tables import Checkpoint, Dataset, Job, Model, Placement
from trainer.collection_vectors import write_collection
from trainer.host import Host
from trainer.run import IngestLimits, RunError, RunFolder, RunSpec, write_atomically


def prepare_run(host: Host, job: Job, run: RunFolder, placement: Placement) -> None:
    """Make the run folder of a job's attempt on this node; the processes of the first one hand its state to the others.

    Raises RunError (`dataset_not_ready`, `model_deleted`, `collection_deleted`, `corrupt_file`), or NotFound for a lost
    blob.
    """
    with host.database.transaction() as session:
        dataset = session.get(Dataset, job.dataset_id) if job.dataset_id else None
        model = session.get(Model, job.model_id) if job.model_id else None
        checkpoints = list(
            session.scalars(select(Checkpoint).where(Checkpoint.job_id == job.id).order_by(Checkpoint.step.desc()))
        )
    run.create(_spec(host.settings, job, placement.slot))
    if job.kind == "map":
        write_collection(host.database, job, run)
    else:
        _link_inputs(host, job, run, dataset, model)
    if placement.node_rank == 0:
        _restore_checkpoint(host, job, run, checkpoints)


def _link_inputs(host: Host, job: Job, run: RunFolder, dataset: Dataset | None, model: Model | None) -> None:
    if job.kind == "ingest":
        if dataset is None:
            raise RunError("dataset_deleted", "the data set was deleted")
        host.files.link(dataset.archive_key, dataset.archive_sha256, run.archive)
    elif job.kind != "index":
        if dataset is None or dataset.files is None:
            raise RunError("dataset_not_ready", "the data set was deleted, or isn't ready")
        for name, file in dataset.files.items():
            host.files.link(file["key"], file["sha256"], run.dataset / name)
    if job.kind not in {"pretrain", "ingest"}:
        if model is None:
            raise RunError("model_deleted", "the model was deleted")
        for name, file in model.files.items():
            host.files.link(file["key"], file["sha256"], run.model / name)


def _spec(settings: Settings, job: Job, slot: str) -> RunSpec:
    spec: dict[str, Any] = {"kind": job.kind, "recipe": job.recipe, "device": "cuda" if slot == "cuda" else "cpu"}
    if job.kind == "ingest":
        spec["limits"] = {name: getattr(settings, name) for name in IngestLimits.model_fields}
    return RunSpec.model_validate(spec)


def _restore_checkpoint(host: Host, job: Job, run: RunFolder, checkpoints: list[Checkpoint]) -> None:
    """Put the newest checkpoint that is as it was stored into the run folder; forget the others above it."""
    for checkpoint in checkpoints:
        target = run.checkpoints / f"step-{checkpoint.step:08d}.pt"
        try:
            path = host.storage.fetch(checkpoint.key, target)
            is_whole = sha256_of(path) == checkpoint.sha256
        except NotFound:
            is_whole = False
        if is_whole:
            if path != target:
                target.symlink_to(path.resolve())
            manifest = {name: getattr(checkpoint, name) for name in ("step", "sha256", "num_bytes")}
            write_atomically(target.with_suffix(".json"), json.dumps(manifest).encode())
            return
        target.unlink(missing_ok=True)
        with host.database.transaction() as session:
            _forget(session, job, checkpoint)


def _forget(session: Session, job: Job, checkpoint: Checkpoint) -> None:
    warning = {"code": "corrupt_checkpoint", "message": "an older checkpoint is used", "step": checkpoint.step}
    jobs.record_event(session, job.id, job.attempt, "warning", warning)
    session.execute(delete(Checkpoint).where(Checkpoint.job_id == job.id, Checkpoint.step == checkpoint.step))
