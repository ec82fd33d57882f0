"""What a job leaves behind when its process succeeded: files in storage, then rows, in one transaction with its end.

The files go to keys that no row names yet; the rows are written only if the attempt still holds the job.
"""

import json
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import cast, delete, event, func, insert, select, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session

from models.classifier import HEAD_FILE
from models.collection_map import MAP_FILE
from models.variants import FILES, VARIANTS
from service.core import jobs
from service.core.db import Database
from service.core.errors import Unavailable
from service.core.heads import head_folder
from service.core.ids import new_id
from service.core.maps import map_folder
from service.core.storage import Storage, sha256_of
from service.core.tables import Checkpoint, Collection, Dataset, DatasetRejection, Job, Model
from trainer.outcome import Failed
from trainer.pack import FILES as PACK_FILES
from trainer.run import RunError, RunFolder

NETWORK_FILES = ("encoder.pt", "model.json")  # of a model, besides an ONNX file of each published variant

Result = dict[str, Any]
Record = Callable[[Session, Job], Result]  # writes the rows of the held job; the result as the job shows it
Files = dict[str, Any]  # {name: {"key", "sha256", "num_bytes"}}
MODEL_COLUMNS = ("recipe", "preprocessing", "layers", "parity_cosine", "variants")
DATASET_COLUMNS = ("num_images", "num_duplicates", "num_rejected", "classes", "splits", "image_sizes")


def upload(storage: Storage, job: Job, run: RunFolder, result: Result) -> Record:
    """Store the files of a run that succeeded; what remains to be done in the transaction that ends the job."""
    match job.kind:
        case "pretrain" | "finetune":
            model_id = new_id("mdl")
            about = json.loads((run.output / "model.json").read_bytes())
            head = (HEAD_FILE,) if job.kind == "finetune" else ()
            files = _store(storage, f"models/{model_id}", run.output, (*_model_files(about), *head))
            return partial(_record_model, model_id=model_id, files=files, about=about, result=result)
        case "export":
            about = json.loads((run.output / "model.json").read_bytes())
            prefix = f"models/{job.model_id}/{job.id}-{job.attempt}"
            files = _store(storage, prefix, run.output, _model_files(about))
            return partial(_record_export, storage=storage, files=files, about=about, result=result)
        case "ingest":
            files = _store(storage, f"datasets/{job.dataset_id}/pack-{job.attempt}", run.output, PACK_FILES)
            return partial(_record_dataset, files=files, result=result)
        case "linear_probe":
            files = _store(storage, head_folder(job.id, job.attempt), run.output, (HEAD_FILE,))
            return partial(_record_classifier, files=files, result=result)
        case "map":
            files = _store(storage, map_folder(job.id, job.attempt), run.output, (MAP_FILE,))
            return partial(_record_map, files=files, result=result)
        case _:
            return partial(_record_probe if job.kind == "knn_probe" else _record_result, result=result)


def finish(session: Session, job_id: str, attempt: int, record: Record) -> Job:
    """End a job that succeeded, with its rows; if it was to be cancelled, without. Raises Fenced."""
    job = jobs.hold(session, job_id, attempt)
    if job.status == "cancelling":
        return jobs.cancel(session, job)
    try:
        return jobs.succeed(session, job, record(session, job))
    except RunError as error:
        return jobs.fail(session, job, error.code, error.message)


def finish_failed(session: Session, job_id: str, attempt: int, failure: Failed) -> Job:
    """End a job that failed; an ingest job's data set lists what was rejected. Raises Fenced."""
    job = jobs.hold(session, job_id, attempt)
    if job.kind == "ingest" and job.dataset_id is not None:
        _reject(session, job.dataset_id, failure.details.get("rejected", []))
    return jobs.fail(session, job, failure.code, failure.message)


def delete_old_checkpoints(database: Database, storage: Storage, job_id: str) -> None:
    """Of a job that succeeded, keep the newest checkpoint only: nothing goes on from the others any more."""
    of_job = Checkpoint.job_id == job_id
    newest = select(func.max(Checkpoint.step)).where(of_job).scalar_subquery()
    with database.transaction() as session:
        old = session.scalars(delete(Checkpoint).where(of_job, Checkpoint.step < newest).returning(Checkpoint.key))
        keys = old.all()
    for key in keys:
        storage.delete(key)  # after the commit: a row never names a blob that is gone


def _record_result(session: Session, job: Job, *, result: Result) -> Result:
    return {**result, **_transfer(session, job)} if job.kind in {"layer_sweep", "transform_probe"} else result


def _record_model(session: Session, job: Job, *, model_id: str, files: Files, about: Result, result: Result) -> Result:
    columns = {name: about[name] for name in MODEL_COLUMNS}
    made_by = {"tenant": job.tenant, "job_id": job.id, "dataset_id": job.dataset_id}
    session.add(Model(id=model_id, files=files, **made_by, **columns))
    session.flush()
    transfer = _transfer(session, job) if job.kind == "finetune" else {}
    return {**result, **transfer, "model_id": model_id}


def _model_files(about: Result) -> tuple[str, ...]:
    published = [FILES[name] for name in VARIANTS if about["variants"].get(name, {}).get("status") == "published"]
    return (*published, *NETWORK_FILES)


def _record_export(
    session: Session, job: Job, *, storage: Storage, files: Files, about: Result, result: Result
) -> Result:
    """Have the model name its new files, and delete those that they replace once that is committed."""
    model = session.get(Model, job.model_id, with_for_update=True) if job.model_id else None
    if model is None:
        raise RunError("model_deleted", "the model was deleted while it was exported")
    head = {name: file for name, file in model.files.items() if name == HEAD_FILE}  # of a fine-tuned one: it stays
    replaced = [file["key"] for name, file in model.files.items() if name not in head]
    model.files = {**files, **head}
    for name in MODEL_COLUMNS:
        setattr(model, name, about[name])

    def delete_replaced(_: Session) -> None:
        with suppress(Unavailable):  # what is left takes space, nothing more
            for key in replaced:
                storage.delete(key)

    event.listen(session, "after_commit", delete_replaced, once=True)
    return result


def _record_dataset(session: Session, job: Job, *, files: Files, result: Result) -> Result:
    if job.dataset_id is None:
        raise RunError("dataset_deleted", "the data set was deleted while it was ingested")
    columns = {name: result[name] for name in DATASET_COLUMNS}
    statement = update(Dataset).where(Dataset.id == job.dataset_id)
    session.execute(statement.values(status="ready", files=files, **columns))
    _reject(session, job.dataset_id, result["rejected"])
    return columns


def _record_map(session: Session, job: Job, *, files: Files, result: Result) -> Result:
    collection_id = job.recipe[
        "collection_id"
    ]  # its row is locked: who deletes it deletes this map too, or comes first
    if session.get(Collection, collection_id, with_for_update={"read": True, "key_share": True}) is None:
        raise RunError("collection_deleted", "the collection was deleted while it was laid out")
    return {**result, "map": {name: files[MAP_FILE][name] for name in ("sha256", "num_bytes")}}


def _record_classifier(session: Session, job: Job, *, files: Files, result: Result) -> Result:
    shown = {name: {"sha256": file["sha256"], "num_bytes": file["num_bytes"]} for name, file in files.items()}
    return {**_record_probe(session, job, result=result), "files": shown}


def _record_probe(session: Session, job: Job, *, result: Result) -> Result:
    result = {**result, **_transfer(session, job)}
    if job.recipe.get("layer", "h") != "h":  # of an older release's job it is h
        return result  # for the job alone: the model's figures are those of h
    probe = {job.kind: {**result, "job_id": job.id, "dataset_id": job.dataset_id}}
    probes = Model.probes.op("||")(cast(probe, JSONB))  # in the database: two probes may end at once
    session.execute(update(Model).where(Model.id == job.model_id).values(probes=probes))
    return result


def _transfer(session: Session, job: Job) -> Result:
    """Whether the job's data set is another one than its model was trained on (B.8); null once either is deleted."""
    trained_on = session.scalar(select(Model.dataset_id).where(Model.id == job.model_id))
    is_known = trained_on is not None and job.dataset_id is not None
    return {"transfer": trained_on != job.dataset_id if is_known else None}


def _store(storage: Storage, prefix: str, folder: Path, names: tuple[str, ...]) -> Files:
    files = {}
    for name in names:
        path, key = folder / name, f"{prefix}/{name}"
        storage.put_file(key, path)
        files[name] = {"key": key, "sha256": sha256_of(path), "num_bytes": path.stat().st_size}
    return files


def _reject(session: Session, dataset_id: str, rejected: list[dict[str, str]]) -> None:
    rows = [{"dataset_id": dataset_id, "position": i, **member} for i, member in enumerate(rejected)]
    if rows:
        session.execute(insert(DatasetRejection), rows)
