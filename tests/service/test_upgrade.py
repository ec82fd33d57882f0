"""A database that the first tables were filled in is brought to this release, and all that was in it can be used."""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psycopg
import pytest
from psycopg.types.json import Json
from sqlalchemy import NullPool, create_engine

from service.core import schema
from service.core.db import Database, sqlalchemy_url
from service.core.settings import Settings
from service.core.storage import LocalStorage
from service.core.tables import Job
from tests.service.conftest import serving
from tests.service.routes.gallery import id_of, picture, pixels_h, upload
from tests.small_models import exported
from trainer.placement import expire_leases

# What the first release's `cpu-small` was, in full.
RECIPE = json.loads("""
{"preset": "cpu-small", "seed": 0, "batch_size": 256,
 "preprocessing": {"version": 1, "storage_side": 256, "image_size": 32, "crop_fraction": 1.0},
 "encoder": {"name": "resnet10", "width": 0.25, "stem": "cifar"},
 "head": {"num_layers": 2, "hidden_size": null, "output_size": 128},
 "augmentation": {"crop_area": [0.08, 1.0], "crop_ratio": [0.75, 1.3333333333333333], "flip_probability": 0.5,
  "color_strength": 0.5, "color_probability": 0.8, "brightness": "multiplicative", "grayscale_probability": 0.2,
  "blur_probability": 0.0, "blur_sigma": [0.1, 2.0]},
 "loss": {"name": "nt_xent", "temperature": 0.5},
 "optimizer": {"name": "lars", "learning_rate": 0.075, "scaling": "sqrt", "momentum": 0.9, "weight_decay": 1e-06},
 "schedule": {"epochs": 30, "warmup_epochs": 2.0}, "precision": "bfloat16", "checkpoint_every_seconds": 60.0}
""")
PROBE = {"seed": 0, "num_l2_values": 45, "l2_min": 1e-06, "l2_max": 100000.0, "held_out_fraction": 0.2,
         "max_iterations": 200}  # fmt: skip
RESOURCES = {"nodes": {"min": 1, "max": 1}, "processes_per_node": 1, "device": "auto"}


def id_for(kind: str, number: int) -> str:
    return f"{kind}_{number:026d}"


DS, OLD, SERVED = id_for("ds", 1), id_for("mdl", 1), id_for("mdl", 2)
TRAINED, RUNNING, FAILED, PROBED, QUEUED = (id_for("job", number) for number in range(1, 6))
PICTURES = [picture(seed) for seed in range(4)]


class FirstRelease:
    """Writes rows as the first release did."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection

    def insert(self, table: str, **columns: Any) -> None:
        values = [Json(value) if isinstance(value, dict | list) else value for value in columns.values()]
        names, places = ", ".join(columns), ", ".join(["%s"] * len(columns))
        self.connection.execute(f"insert into {table} ({names}) values ({places})".encode(), values)

    def job(self, id_: str, kind: str, status: str, **columns: Any) -> None:
        fixed: dict[str, Any] = {"recipe": RECIPE, "resources": RESOURCES, "metadata": {"note": "mine"}, "attempt": 1}
        fixed |= {"attempts_without_progress": 0, "dataset_id": DS}
        self.insert("job", id=id_, kind=kind, status=status, **(fixed | columns))
        for state in dict.fromkeys(["queued", "running", status]):
            about = {"status": state} | ({"nodes": ["a"]} if state == "running" else {})
            self.insert("job_event", job_id=id_, attempt=int(state != "queued"), type="status", data=about)


def fill(first: FirstRelease, storage: LocalStorage) -> None:
    """Something of everything that the first release knew."""
    sums = {"archive_key": f"datasets/{DS}/archive", "archive_sha256": "0" * 64}
    counts = {"num_images": 4, "num_duplicates": 0, "num_rejected": 1, "classes": ["cat", "dog"]}
    splits = {"train": {"num_images": 4, "per_class": [2, 2]}}
    sizes = {"min": [8, 8], "median": [8, 8], "max": [8, 8]}
    about = {"name": "pets", "status": "ready", "on_invalid": "skip", "archive_name": "pets.zip"}
    first.insert("dataset", id=DS, **about, **sums, **counts, splits=splits, image_sizes=sizes, files={})
    first.insert("dataset_rejection", dataset_id=DS, position=0, name="x.txt", code="not_an_image", detail="text")
    network = exported("pixels", 8)
    onnx = network.files["model.onnx"]
    key = f"models/{SERVED}/model.onnx"
    storage.put(key, onnx)
    file = {"key": key, "sha256": hashlib.sha256(onnx).hexdigest(), "num_bytes": len(onnx)}
    columns = {name: network.description[name] for name in ("recipe", "preprocessing", "layers", "parity_cosine")}
    first.insert("model", id=SERVED, dataset_id=DS, files={"model.onnx": file}, probes={}, **columns)
    fill_jobs(first)
    first.insert("alias", name="production", model_id=SERVED)
    first.insert("alias_change", alias="production", model_id=SERVED)
    fill_images(first, storage, network.description["layers"]["h"])


def fill_jobs(first: FirstRelease) -> None:
    old = {"recipe": RECIPE, "preprocessing": RECIPE["preprocessing"], "layers": {"h": 128, "z": 128}}
    gone = {"model.onnx": {"key": f"models/{OLD}/model.onnx", "sha256": "0" * 64, "num_bytes": 1}}
    first.job(TRAINED, "pretrain", "succeeded", result={"steps": 30, "model_id": OLD}, idempotency_key="once")
    first.insert("model", id=OLD, job_id=TRAINED, dataset_id=DS, parity_cosine=1.0, files=gone, probes={}, **old)
    metrics = {"step": 30, "steps": 30, "loss": 1.5, "learning_rate": 0.1, "images_per_second": 100.0, "epoch": 30.0}
    first.insert("job_event", job_id=TRAINED, attempt=1, type="metrics", data=metrics)
    first.job(RUNNING, "pretrain", "running")
    state = {"step": 10, "attempt": 1, "key": "k", "sha256": "0" * 64, "num_bytes": 1}
    first.insert("checkpoint", job_id=RUNNING, **state)
    first.insert("node", name="a", address="::1", slots={"cpu": 1}, devices={}, versions={})
    held = {"node_name": "a", "slot": "cpu", "num_slots": 1, "token": "t", "num_relayed": 0}
    instants = {"lease_until": "2026-01-01", "sent_at": "2026-01-01", "claimed_at": "2026-01-01"}
    first.insert("placement", job_id=RUNNING, attempt=1, node_rank=0, **held, **instants)
    first.job(FAILED, "pretrain", "failed", error={"code": "rank_killed", "message": "killed"})
    top1 = {"top1": 0.5, "num_train": 4, "num_test": 4, "test_split": "test"}
    first.job(PROBED, "linear_probe", "succeeded", recipe=PROBE, model_id=OLD, result=top1)
    first.job(QUEUED, "index", "queued", recipe={"layer": "h", "batch_size": 64}, model_id=SERVED, dataset_id=None)


def fill_images(first: FirstRelease, storage: LocalStorage, size: int) -> None:
    first.insert("collection", id=id_for("col", 1), name="pets")
    first.insert("embedding_table", model_id=SERVED, layer="h", size=size)
    first.connection.execute(
        f"create table emb_1 (image_id text primary key references image (id) on delete cascade,"
        f" h vector({size}) not null) with (vacuum_index_cleanup = off)".encode()
    )
    for content in PICTURES:
        key = f"images/{id_of(content)}"
        storage.put(key, content)
        seen = {"format": "png", "width": 8, "height": 8, "num_bytes": len(content)}
        first.insert("image", id=id_of(content), key=key, **seen)
        member = {"label": "cat", "metadata": {"from": "first"}, "filename": "a.png"}
        first.insert("collection_image", collection_id=id_for("col", 1), image_id=id_of(content), **member)
        first.insert("emb_1", image_id=id_of(content), h=str(pixels_h(content).tolist()))


@pytest.fixture
def upgraded(create_database: Callable[[], str], redis_url: str, tmp_path: Path) -> Settings:
    """The settings of a service on a database that the first release filled."""
    url = create_database()
    engine = create_engine(sqlalchemy_url(url), poolclass=NullPool)
    settings = Settings(data_dir=tmp_path, database_url=url, redis_url=redis_url, auth="off")
    with engine.begin() as connection:
        schema.upgrade(connection, schema.revisions()[-1])
    with psycopg.connect(url) as connection:
        fill(FirstRelease(connection), LocalStorage(settings.storage_dir))
    schema.migrate(url)
    return settings


@pytest.fixture
def api(upgraded: Settings) -> Iterator[httpx.Client]:
    with serving(upgraded) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield client


def get(api: httpx.Client, path: str) -> Any:
    response = api.get(path)
    assert response.status_code == 200, f"{path}: {response.text}"
    return response.json()


def test_what_the_first_release_left_can_be_used(api: httpx.Client, upgraded: Settings) -> None:
    """Listed and shown, searched, added to, deleted; jobs are resumed, cancelled and placed again."""
    assert [dataset["name"] for dataset in get(api, "/v1/datasets")["items"]] == ["pets"]
    assert get(api, f"/v1/datasets/{DS}/rejected")["items"][0]["name"] == "x.txt"
    assert {job["id"] for job in get(api, "/v1/jobs")["items"]} == {TRAINED, RUNNING, FAILED, PROBED, QUEUED}
    for job_id in (TRAINED, RUNNING, FAILED, PROBED, QUEUED):
        assert get(api, f"/v1/jobs/{job_id}/report")["job"]["id"] == job_id
    assert get(api, f"/v1/jobs/{TRAINED}/metrics")["loss"] == [1.5]
    assert get(api, f"/v1/jobs/{RUNNING}/checkpoints")["items"][0]["step"] == 10
    _look_at_models(api)
    _search(api)
    with closing(Database(upgraded.database_url)) as database, database.transaction() as session:
        expire_leases(session, lease_seconds=8, max_attempts=3)
        assert session.get_one(Job, RUNNING).status == "queued"
    assert api.post(f"/v1/jobs/{FAILED}/resume").status_code == 202
    assert api.post(f"/v1/jobs/{QUEUED}/cancel").json()["status"] == "cancelled"
    again = api.post("/v1/jobs", json={"kind": "index", "model_id": SERVED}, headers={"Idempotency-Key": "new"})
    assert again.status_code == 202


def _look_at_models(api: httpx.Client) -> None:
    """One whose preprocessing this release has given up is shown and refused, and can be deleted."""
    assert [model["id"] for model in get(api, "/v1/models")["items"]] == [SERVED, OLD]
    assert list(get(api, f"/v1/models/{OLD}")["layers"]) == ["h", "z"]
    assert [alias["model_id"] for alias in get(api, "/v1/aliases")["items"]] == [SERVED]
    probe = api.post("/v1/jobs", json={"kind": "linear_probe", "model_id": OLD, "dataset_id": DS})
    assert (probe.status_code, probe.json()["code"]) == (409, "unreadable_model")
    assert f"the model {OLD} was made by an older release" in probe.json()["detail"]
    assert api.put("/v1/aliases/production", json={"model_id": OLD}).status_code == 409
    assert api.delete(f"/v1/models/{OLD}").status_code == 204


def _search(api: httpx.Client) -> None:
    """By the vectors that were there; a new image joins them, and a deleted one leaves."""
    vectors = np.stack([pixels_h(content) for content in PICTURES])
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    nearest = np.argsort(-(unit @ unit[0]))[1:]
    request = {"image_id": id_of(PICTURES[0]), "collection": "pets", "k": 3}
    hits = api.post("/v1/search", json=request).json()["items"]
    assert [hit["id"] for hit in hits] == [id_of(PICTURES[i]) for i in nearest]
    assert {hit["label"] for hit in hits} == {"cat"}
    upload(api, [picture(9)], collection="pets")
    assert api.delete(f"/v1/images/{id_of(PICTURES[1])}").status_code == 204
    found = api.post("/v1/search", json={**request, "k": 10}).json()["items"]
    assert {hit["id"] for hit in found} == {id_of(content) for content in (*PICTURES[2:], picture(9))}
