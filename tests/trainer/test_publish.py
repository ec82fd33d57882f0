"""What a job leaves: a model, probe figures, a data set; all of it or nothing."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, func, select

from models.collection_map import MAP_FILE
from service.core import jobs
from service.core.db import Database
from service.core.errors import NotFound
from service.core.heads import head_folder
from service.core.storage import LocalStorage, sha256_of
from service.core.tables import Checkpoint, Collection, Dataset, DatasetRejection, Job, Model
from tests.service.core.stored_images import add_images, image_ids
from tests.trainer.job_plane import add_dataset, add_model, get, submit
from trainer import publish
from trainer.outcome import Failed
from trainer.run import RunFolder

ABOUT = {
    "recipe": {"seed": 1},
    "preprocessing": {"image_size": 32},
    "layers": {"h": 4, "z": 2},
    "parity_cosine": 0.9999,
    "variants": {"float32": {"status": "published"}, "int8": {"status": "refused", "reason": "int8: too far off"}},
}
INGESTED: dict[str, Any] = {
    "num_images": 3,
    "num_duplicates": 1,
    "num_rejected": 1,
    "classes": ["a", "b"],
    "splits": {"train": {"num_images": 3, "per_class": [2, 1]}},
    "image_sizes": {"min": [1, 1], "median": [2, 2], "max": [3, 3]},
}
FILES = {"head.npz": {"sha256": hashlib.sha256(b"content of head.npz").hexdigest(), "num_bytes": 19}}
REJECTED = [{"name": "a/x.txt", "code": "undecodable", "detail": "no image"}]


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run folder with all that a process may leave in it."""
    run = RunFolder(tmp_path / "run")
    run.output.mkdir(parents=True)
    for name in ("model.onnx", "encoder.pt", "pixels.bin", "index.npz", "manifest.json", "head.npz"):
        (run.output / name).write_text(f"content of {name}")
    (run.output / "model.json").write_text(json.dumps(ABOUT))
    return run


def running(database: Database, kind: str, **fields: Any) -> Job:
    """A job in its first attempt."""
    job_id = submit(database, kind, **fields)
    with database.transaction() as session:
        return jobs.start(session, session.get_one(Job, job_id))


def succeed(database: Database, storage: LocalStorage, job: Job, run: RunFolder, result: dict[str, Any]) -> Job:
    """Publish and end a job."""
    record = publish.upload(storage, job, run, result)
    with database.transaction() as session:
        return publish.finish(session, job.id, job.attempt, record)


def test_pretraining_leaves_a_model(database: Database, storage: LocalStorage, run: RunFolder) -> None:
    """Of the job's tenant, its columns are model.json's, its files are in storage with their sha256."""
    job = running(database, "pretrain", dataset_id=add_dataset(database), tenant="theirs")
    ended = succeed(database, storage, job, run, {"final_loss": 1.5})
    assert ended.status == "succeeded"
    assert ended.result is not None
    with database.transaction() as session:
        model = session.scalars(select(Model)).one()
    assert ended.result == {"final_loss": 1.5, "model_id": model.id}
    assert (model.tenant, model.job_id, model.dataset_id) == ("theirs", job.id, "ds_1")
    assert {name: getattr(model, name) for name in ABOUT} == ABOUT
    assert set(model.files) == {"model.onnx", "encoder.pt", "model.json"}
    for name, file in model.files.items():
        path = storage.fetch(file["key"], Path())
        assert path.read_bytes() == (run.output / name).read_bytes()
        assert (file["sha256"], file["num_bytes"]) == (sha256_of(path), path.stat().st_size)


def test_an_export_replaces_the_files_of_its_model(database: Database, storage: LocalStorage, run: RunFolder) -> None:
    """The row names the new files and keeps its probes and its classifier; the old blobs go once that is committed."""
    storage.put("models/mdl_1/model.onnx", b"of an older release")
    storage.put("models/mdl_1/head.npz", b"fine-tuned")
    old = ("model.onnx", "head.npz")
    files = {name: {"key": f"models/mdl_1/{name}", "sha256": "0", "num_bytes": 1} for name in old}
    fields = {
        "dataset_id": add_dataset(database),
        "model_id": add_model(database, files=files, probes={"knn_probe": {}}),
    }
    job = running(database, "export", **fields)
    published = {"float32": {"status": "published"}, "int8": {"status": "published"}}
    (run.output / "model.json").write_text(json.dumps({**ABOUT, "variants": published}))
    (run.output / "model-int8.onnx").write_text("in 8 bits")
    record = publish.upload(storage, job, run, {"model": {}})
    assert storage.get("models/mdl_1/model.onnx") == b"of an older release"
    with database.transaction() as session:
        publish.finish(session, job.id, job.attempt, record)
        assert storage.get("models/mdl_1/model.onnx") == b"of an older release"  # it may still be rolled back
    with database.transaction() as session:
        model = session.get_one(Model, "mdl_1")
    assert set(model.files) == {"model.onnx", "model-int8.onnx", "encoder.pt", "model.json", "head.npz"}
    assert storage.get(model.files["head.npz"]["key"]) == b"fine-tuned"
    assert {name: getattr(model, name) for name in ABOUT} == {**ABOUT, "variants": published}
    assert model.probes == {"knn_probe": {}}
    assert storage.get(model.files["model-int8.onnx"]["key"]) == b"in 8 bits"
    assert model.files["model-int8.onnx"]["key"].startswith("models/mdl_1/")  # they go with the model
    with pytest.raises(NotFound):
        storage.get("models/mdl_1/model.onnx")


def test_an_export_that_is_rolled_back_deletes_nothing(
    database: Database, storage: LocalStorage, run: RunFolder
) -> None:
    """The row and the blobs that it names stay as they were."""
    storage.put("models/mdl_1/model.onnx", b"of an older release")
    files = {"model.onnx": {"key": "models/mdl_1/model.onnx", "sha256": "0", "num_bytes": 1}}
    fields = {"dataset_id": add_dataset(database), "model_id": add_model(database, files=files)}
    job = running(database, "export", **fields)
    record = publish.upload(storage, job, run, {})
    with database.transaction() as session:
        publish.finish(session, job.id, job.attempt, record)
        session.rollback()
    with database.transaction() as session:
        assert session.get_one(Model, "mdl_1").files == files
    assert storage.get("models/mdl_1/model.onnx") == b"of an older release"


def test_an_export_of_a_deleted_model_fails(database: Database, storage: LocalStorage, run: RunFolder) -> None:
    """The job says why."""
    job = running(database, "export", dataset_id=add_dataset(database), model_id=add_model(database))
    record = publish.upload(storage, job, run, {})
    with database.transaction() as session:
        session.delete(session.get_one(Model, "mdl_1"))
    with database.transaction() as session:
        ended = publish.finish(session, job.id, job.attempt, record)
    assert ended.status == "failed"
    assert get(database, job.id).error == {
        "code": "model_deleted",
        "message": "the model was deleted while it was exported",
    }


def test_probes_that_end_together_are_both_on_the_model(
    database: Database, storage: LocalStorage, run: RunFolder
) -> None:
    """Neither of two concurrent probes overwrites the other's figures; files are the job's, not the model's."""
    fields = {"dataset_id": add_dataset(database), "model_id": add_model(database)}
    probes = [running(database, kind, **fields) for kind in ("linear_probe", "knn_probe")]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda job: succeed(database, storage, job, run, {"top1": 0.5}), probes))
    with database.transaction() as session:
        found = session.get_one(Model, "mdl_1").probes
    figures = {"top1": 0.5, "transfer": None, "dataset_id": "ds_1"}
    assert found == {job.kind: {**figures, "job_id": job.id} for job in probes}


def test_a_models_figures_are_those_of_h(database: Database, storage: LocalStorage, run: RunFolder) -> None:
    """A probe of another layer, and a sweep of all, leave their result with the job and the model as it was."""
    fields = {"dataset_id": add_dataset(database), "model_id": add_model(database)}
    of_h = running(database, "linear_probe", recipe={"layer": "h"}, **fields)
    succeed(database, storage, of_h, run, {"layer": "h", "top1": 0.5})
    of_z = running(database, "linear_probe", recipe={"layer": "z"}, **fields)
    ended = succeed(database, storage, of_z, run, {"layer": "z", "top1": 0.4})
    assert ended.result == {"layer": "z", "top1": 0.4, "files": FILES, "transfer": None}
    for kind in ("layer_sweep", "transform_probe"):
        ended = succeed(database, storage, running(database, kind, **fields), run, {"k": 1})
        assert ended.result == {"k": 1, "transfer": None}
    with database.transaction() as session:
        probes = session.get_one(Model, "mdl_1").probes
    figures = {"layer": "h", "top1": 0.5, "transfer": None}
    assert probes == {"linear_probe": {**figures, "job_id": of_h.id, "dataset_id": "ds_1"}}


def test_fine_tuning_leaves_a_model_with_its_classifier(
    database: Database, storage: LocalStorage, run: RunFolder
) -> None:
    """A model of its own beside the one that it started from, made on the data set whose labels it learned."""
    dataset_id = add_dataset(database)
    job = running(database, "finetune", dataset_id=dataset_id, model_id=add_model(database, dataset_id=dataset_id))
    ended = succeed(database, storage, job, run, {"top1": 0.5})
    assert ended.result is not None
    with database.transaction() as session:
        model = session.get_one(Model, ended.result["model_id"])
        assert session.get_one(Model, "mdl_1").probes == {}
    assert ended.result == {"top1": 0.5, "transfer": False, "model_id": model.id}
    assert (model.job_id, model.dataset_id, model.recipe) == (job.id, dataset_id, ABOUT["recipe"])
    assert set(model.files) == {"model.onnx", "encoder.pt", "model.json", "head.npz"}
    assert storage.get(f"models/{model.id}/head.npz") == b"content of head.npz"


@pytest.mark.parametrize("kind", ["linear_probe", "knn_probe", "layer_sweep", "transform_probe", "finetune"])
def test_a_probe_on_another_data_set_is_a_transfer(
    database: Database, storage: LocalStorage, run: RunFolder, kind: str
) -> None:
    """The result says so; of a model whose data set is deleted nobody knows."""
    own, other = (add_dataset(database, id=id_) and id_ for id_ in ("ds_1", "ds_2"))
    model_id = add_model(database, dataset_id=own)
    found = []
    for dataset_id in (own, other):
        job = running(database, kind, dataset_id=dataset_id, model_id=model_id)
        found.append((succeed(database, storage, job, run, {}).result or {})["transfer"])
    late = running(database, kind, dataset_id=other, model_id=model_id)
    with database.transaction() as session:
        session.delete(session.get_one(Dataset, own))
    found.append((succeed(database, storage, late, run, {}).result or {})["transfer"])
    assert found == [False, True, None]


def test_an_attempt_that_was_given_up_leaves_the_head_as_it_is(
    database: Database, storage: LocalStorage, run: RunFolder
) -> None:
    """A late agent stores its head beside that of the attempt that succeeded, whose sha256 the job names."""
    fields = {"dataset_id": add_dataset(database), "model_id": add_model(database)}
    first = running(database, "linear_probe", **fields)
    with database.transaction() as session:
        second = jobs.start(session, jobs.requeue(session, jobs.hold(session, first.id, 1), "node_lost"))
    ended = succeed(database, storage, second, run, {"layer": "h"})
    (run.output / "head.npz").write_text("another head")
    publish.upload(storage, first, run, {"layer": "h"})
    assert storage.get(f"{head_folder(ended.id, ended.attempt)}/head.npz") == b"content of head.npz"
    assert ended.result is not None
    assert ended.result["files"] == FILES


def test_ingestion_leaves_a_ready_data_set(database: Database, storage: LocalStorage, run: RunFolder) -> None:
    """Counts, packed files and the rejected list are there; the job's result leaves the list out."""
    job = running(database, "ingest", dataset_id=add_dataset(database, status="validating", files=None))
    ended = succeed(database, storage, job, run, {**INGESTED, "rejected": REJECTED})
    assert ended.result == INGESTED
    with database.transaction() as session:
        dataset = session.get_one(Dataset, "ds_1")
        rejected = session.scalars(select(DatasetRejection)).one()
    assert dataset.status == "ready"
    assert {name: getattr(dataset, name) for name in INGESTED} == INGESTED
    assert dataset.files is not None
    assert set(dataset.files) == {"pixels.bin", "index.npz", "manifest.json"}
    assert storage.get(dataset.files["pixels.bin"]["key"]) == b"content of pixels.bin"
    assert {"name": rejected.name, "code": rejected.code, "detail": rejected.detail} == REJECTED[0]


def test_a_failed_ingestion_lists_what_was_rejected(database: Database) -> None:
    """The data set is failed with the job's error and the names of the bad files."""
    job = running(database, "ingest", dataset_id=add_dataset(database, status="validating", files=None))
    failure = Failed("invalid_images", "1 file is no image", {"rejected": REJECTED})
    with database.transaction() as session:
        assert publish.finish_failed(session, job.id, 1, failure).status == "failed"
    with database.transaction() as session:
        dataset = session.get_one(Dataset, "ds_1")
        assert session.scalar(select(func.count()).select_from(DatasetRejection)) == 1
    assert (dataset.status, dataset.error) == (
        "failed",
        {"code": "invalid_images", "message": "1 file is no image"},
    )


def test_an_old_attempt_publishes_nothing(database: Database, storage: LocalStorage, run: RunFolder) -> None:
    """An agent that comes late, after its job was given to another, leaves no model."""
    job = running(database, "pretrain", dataset_id=add_dataset(database))
    record = publish.upload(storage, job, run, {})
    with database.transaction() as session:
        jobs.start(session, jobs.requeue(session, jobs.hold(session, job.id, 1), "node_lost"))
    with pytest.raises(jobs.Fenced), database.transaction() as session:
        publish.finish(session, job.id, 1, record)
    with database.transaction() as session:
        assert session.scalar(select(func.count()).select_from(Model)) == 0


def test_a_cancelled_job_publishes_nothing(database: Database, storage: LocalStorage, run: RunFolder) -> None:
    """A cancel that came before the last transaction wins over the result."""
    job = running(database, "pretrain", dataset_id=add_dataset(database))
    with database.transaction() as session:
        held = jobs.hold(session, job.id, 1)
        held.status = "cancelling"
    assert succeed(database, storage, job, run, {}).status == "cancelled"
    with database.transaction() as session:
        assert session.scalar(select(func.count()).select_from(Model)) == 0


def test_a_data_set_deleted_meanwhile_fails_its_ingestion(
    database: Database, storage: LocalStorage, run: RunFolder
) -> None:
    """The job says why; nothing refers to the files."""
    job = running(database, "ingest", dataset_id=add_dataset(database, status="validating", files=None))
    with database.transaction() as session:
        session.delete(session.get_one(Dataset, "ds_1"))
    ended = succeed(database, storage, job, run, {**INGESTED, "rejected": []})
    assert ended.status == "failed"
    assert get(database, job.id).error == {
        "code": "dataset_deleted",
        "message": "the data set was deleted while it was ingested",
    }


def test_the_newest_checkpoint_outlives_the_others(database: Database, storage: LocalStorage) -> None:
    """Rows and blobs of a job's older ones go; another job's stay."""
    own, other = (running(database, "pretrain").id for _ in range(2))
    columns = {"attempt": 1, "sha256": "0", "num_bytes": 1}
    with database.transaction() as session:
        for job_id, step in ((own, 5), (own, 10), (own, 9), (other, 1)):
            session.add(Checkpoint(job_id=job_id, step=step, key=f"{job_id}-{step}", **columns))
            storage.put(f"{job_id}-{step}", b"state")
    publish.delete_old_checkpoints(database, storage, own)
    kept = {f"{own}-10", f"{other}-1"}
    with database.transaction() as session:
        assert set(session.scalars(select(Checkpoint.key))) == kept
    assert {path.name for path in storage.root.iterdir() if path.is_file()} == kept


def test_a_map_leaves_its_file(database: Database, storage: LocalStorage, run: RunFolder) -> None:
    """Under its attempt, with the sha256 in its result; of a collection that was deleted meanwhile it fails."""
    with database.transaction() as session:
        collection_id = add_images(session, image_ids(1))
    (run.output / MAP_FILE).write_text("points")
    map_jobs = [running(database, "map", recipe={"collection_id": collection_id}) for _ in range(2)]
    ended = succeed(database, storage, map_jobs[0], run, {"num_points": 1})
    said = {"sha256": hashlib.sha256(b"points").hexdigest(), "num_bytes": 6}
    assert ended.result == {"num_points": 1, "map": said}
    assert storage.get(f"maps/{ended.id}/attempt-1/{MAP_FILE}") == b"points"
    with database.transaction() as session:
        session.execute(delete(Collection))
    failed = succeed(database, storage, map_jobs[1], run, {"num_points": 1})
    assert failed.error
    assert (failed.status, failed.error["code"]) == ("failed", "collection_deleted")
