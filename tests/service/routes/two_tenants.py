"""Everything that a tenant can have, twice: for the test that goes over all operations."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import text

from service.core import jobs
from service.core.db import Database
from service.core.storage import LocalStorage
from service.core.tables import Base, Checkpoint, DatasetRejection
from tests.service.api_keys import issue
from tests.service.conftest import add_dataset, begin
from tests.service.routes.gallery import picture, upload
from tests.small_models import publish

COLLECTION = "kept"
UNCOUNTED = {"api_key", "audit", "alembic_version"}  # a look at a key notes its use


@dataclass(frozen=True)
class Tenant:
    """One of the two."""

    name: str
    api: httpx.Client
    ids: dict[str, str]  # by the name of the parameter that takes them

    @property
    def mark(self) -> str:
        """In whatever it says of its things, but in names of paths."""
        return f"said-by-{self.name}"

    @property
    def hidden(self) -> set[str]:
        """What no answer to another one may say."""
        return {self.mark, *self.ids.values()} - {"model.onnx"}


def furnish(name: str, api: httpx.Client, database: Database, storage: LocalStorage) -> Tenant:
    """One of each: data set, model in production, jobs with all that they leave, images in a collection."""
    tenant = Tenant(name, api, {})
    mark, alias = tenant.mark, f"only-of-{name}"
    api.headers["Authorization"] = f"Bearer {issue(database, name, 'admin')}"
    publish(database, storage, tenant=name)
    model = publish(database, storage, alias=None, tenant=name)
    for model_id in (publish(database, storage, alias=None, tenant=name).id, model.id):
        api.put(f"/v1/aliases/{alias}", json={"model_id": model_id}).raise_for_status()
    image_id = upload(api, [picture(0)], collection=COLLECTION, label=mark, metadata={"of": mark})[0]["id"]
    key_id = api.post("/v1/keys", json={"name": mark, "scopes": ["read"]}).json()["id"]
    with database.of(name).transaction() as session:
        dataset = add_dataset(session, name=mark, archive_name=mark)
        session.add(DatasetRejection(dataset_id=dataset.id, position=0, name=mark, code="c", detail=mark))
        about = {"dataset_id": dataset.id, "metadata": {"of": mark}}
        job = jobs.submit(session, kind="pretrain", recipe={}, idempotency_key="once", **about)
        begin(session, job.id)
        jobs.record_events(session, job, [("metrics", {"step": 1, "loss": 0.5, "of": mark})])
        session.add(Checkpoint(job_id=job.id, step=1, attempt=1, key="k", sha256=mark, num_bytes=1))
        storage.put(jobs.log_key(job.id, 1, 0), mark.encode())
    collection = api.get(f"/v1/collections/{COLLECTION}").json()["id"]
    ids = {
        "dataset_id": dataset.id,
        "job_id": job.id,
        "parent_id": job.id,
        "probe": job.id,
        "model_id": model.id,
        "model": model.id,
        "image_id": image_id,
        "collection": collection,
        "key_id": key_id,
        "alias": alias,
        "name": "model.onnx",
    }
    return replace(tenant, ids=ids)


def rows_of(tenant: Tenant, database: Database) -> dict[str, Any]:
    """All rows that belong to a tenant, by their table."""
    found: dict[str, Any] = {}
    with database.transaction() as session:
        for table in Base.metadata.sorted_tables:
            columns = {column.name for column in table.columns}
            if "tenant" in columns:
                condition = "t.tenant = :tenant"
            elif "job_id" in columns:
                condition = "t.job_id in (select id from job where tenant = :tenant)"
            elif "dataset_id" in columns:
                condition = "t.dataset_id in (select id from dataset where tenant = :tenant)"
            else:
                continue
            statement = f"select row_to_json(t)::text as r from {table.name} t where {condition} order by r"
            if table.name not in UNCOUNTED:
                found[table.name] = session.scalars(text(statement), {"tenant": tenant.name}).all()
        for number in session.scalars(text("select number from embedding_table where tenant = :t"), {"t": tenant.name}):
            found[f"emb_{number}"] = session.scalars(text(f"select row_to_json(e)::text from emb_{number} e")).all()
    return found


def blobs(storage: LocalStorage) -> set[Path]:
    """All files in storage but those of requests that are going on."""
    return {path for path in storage.root.rglob("*") if path.is_file() and path.name != "health"}


def told(response: httpx.Response) -> str:
    """All that an answer says."""
    return response.text + json.dumps(dict(response.headers))
