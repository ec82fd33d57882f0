"""The rows that are the truth of the service. Instants are the database's clock.

dataset ──< dataset_rejection          collection ──< collection_image >── image
   │                                                                        │
  job ──< job, job_event, checkpoint   embedding_table ── emb_<number>(image_id, h)
   │  └─< placement >── node                  │
 model ───────────────────────────────────────┘
   └─< alias, alias_change

The tables emb_<number> are made when a model is first indexed (service/core/vectors.py).

What is `Owned` belongs to a tenant, and so does what is reached from it by its id. A session that is bound to a tenant
sees no other's rows (service/core/db.py).
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    PrimaryKeyConstraint,
    Text,
    UniqueConstraint,
    false,
    func,
)
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

JOB_STATUSES = ("queued", "running", "cancelling", "succeeded", "failed", "cancelled")
FLOAT32_ALONE: Mapping[str, Any] = {"float32": {"status": "published"}}  # of a model of an older release
ENDED = ("succeeded", "failed", "cancelled")
DATASET_STATUSES = ("validating", "ready", "failed")
DEFAULT_TENANT = "default"  # owns all rows of earlier releases, and of a service without keys
TENANT_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,62}$"


def _one_of(column: str, values: tuple[str, ...]) -> CheckConstraint:
    return CheckConstraint(f"{column} in ({', '.join(repr(value) for value in values)})", name=f"{column}_known")


class Base(DeclarativeBase):
    """All tables; text columns are unbounded, dicts and lists are JSONB, instants carry a time zone."""

    type_annotation_map = {  # noqa: RUF012  # SQLAlchemy's own declaration, read once
        str: Text,
        datetime: TIMESTAMP(timezone=True),
        dict[str, Any]: JSONB,
        list[str]: JSONB,
    }


class Owned:
    """A row that belongs to a tenant."""

    tenant: Mapped[str] = mapped_column(server_default=DEFAULT_TENANT, sort_order=1)  # after the class's own columns


class Dataset(Owned, Base):
    """Images to train on: an uploaded archive and, once `ready`, its packed form."""

    __tablename__ = "dataset"
    __table_args__ = (_one_of("status", DATASET_STATUSES), Index("dataset_by_tenant", "tenant", "id"))

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    status: Mapped[str] = mapped_column(default="validating")
    on_invalid: Mapped[str]
    archive_name: Mapped[str]
    archive_key: Mapped[str]
    archive_sha256: Mapped[str]
    num_images: Mapped[int | None]
    num_duplicates: Mapped[int | None]
    num_rejected: Mapped[int | None]
    classes: Mapped[list[str] | None]
    splits: Mapped[dict[str, Any] | None]  # {"train": {"num_images": 5000, "per_class": [500, ...]}, ...}
    image_sizes: Mapped[dict[str, Any] | None]  # {"min": [w, h], "median": [w, h], "max": [w, h]}
    files: Mapped[dict[str, Any] | None]  # the packed form: {name: {"key", "sha256", "num_bytes"}}
    error: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class DatasetRejection(Base):
    """A member of an archive that is not in the data set, and why."""

    __tablename__ = "dataset_rejection"

    dataset_id: Mapped[str] = mapped_column(ForeignKey("dataset.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    code: Mapped[str]
    detail: Mapped[str]


class Job(Owned, Base):
    """Work for the worker pool. `attempt` fences: only the current attempt's agent may write."""

    __tablename__ = "job"
    __table_args__ = (
        _one_of("status", JOB_STATUSES),
        Index("job_queue", "priority_at", postgresql_where="status = 'queued'"),
        Index("job_idempotency_key", "tenant", "idempotency_key", unique=True),
        Index("job_by_tenant", "tenant", "id"),
        Index("job_by_dataset", "dataset_id"),
        Index("job_by_model", "model_id"),
        Index("job_by_parent", "parent_id", "id"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    status: Mapped[str] = mapped_column(default="queued")
    dataset_id: Mapped[str | None] = mapped_column(ForeignKey("dataset.id", ondelete="SET NULL"))
    model_id: Mapped[str | None] = mapped_column(ForeignKey("model.id", ondelete="SET NULL"))
    recipe: Mapped[dict[str, Any]]
    resources: Mapped[dict[str, Any]]
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata", default=dict)
    idempotency_key: Mapped[str | None]
    request_sha256: Mapped[str | None]
    attempt: Mapped[int] = mapped_column(default=0)
    attempts_without_progress: Mapped[int] = mapped_column(default=0)
    progress: Mapped[dict[str, Any] | None]  # {"step", "steps", "epoch", "images_per_second", ...}
    result: Mapped[dict[str, Any] | None]
    error: Mapped[dict[str, Any] | None]  # {"code", "message"}
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    priority_at: Mapped[datetime] = mapped_column(server_default=func.now())  # the queue's order; a requeue keeps it
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    asked_to_yield: Mapped[bool] = mapped_column(default=False, server_default=false())  # to be placed on more nodes
    parent_id: Mapped[str | None] = mapped_column(
        ForeignKey("job.id", ondelete="CASCADE")
    )  # the ablation it belongs to
    cell: Mapped[dict[str, Any] | None]  # of a child: {"values": {field: value}, "seed"}
    traceparent: Mapped[str | None] = mapped_column(sort_order=2)  # the trace that it belongs to (tracing.py)


class JobEvent(Base):
    """What happened to a job, in order of id: the source of `GET /jobs/{id}/events`."""

    __tablename__ = "job_event"
    __table_args__ = (Index("job_event_by_job", "job_id", "id"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"))
    attempt: Mapped[int]
    type: Mapped[str]  # status, stage, metrics, checkpoint, warning
    data: Mapped[dict[str, Any]]
    at: Mapped[datetime] = mapped_column(server_default=func.now())


class Checkpoint(Base):
    """A training state in storage; the two newest of a job are kept, and of one that succeeded the newest."""

    __tablename__ = "checkpoint"

    job_id: Mapped[str] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    attempt: Mapped[int]
    key: Mapped[str]
    sha256: Mapped[str]
    num_bytes: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Node(Base):
    """A worker and what it can run; alive while its heartbeat is fresh."""

    __tablename__ = "node"

    name: Mapped[str] = mapped_column(primary_key=True)
    address: Mapped[str]
    slots: Mapped[dict[str, Any]]  # {"cpu": 1, "cuda": 0, "light": 2}
    devices: Mapped[dict[str, Any]]  # {"cpu": {"num_cores": 2}, "cuda": [{"name", "memory_bytes"}]}
    versions: Mapped[dict[str, Any]]
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    heartbeat_at: Mapped[datetime] = mapped_column(server_default=func.now())
    rendezvous_port: Mapped[int | None]  # a free port that it offers, until a gang takes it


class Placement(Base):
    """A job's attempt on a node, and the outbox of its message to that node.

    An attempt of several processes has `num_slots` on each of `num_nodes` nodes, which meet at the rendezvous: the
    address of node 0.
    """

    __tablename__ = "placement"
    __table_args__ = (Index("placement_open", "node_name", postgresql_where="ended_at is null"),)

    job_id: Mapped[str] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"), primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    node_rank: Mapped[int] = mapped_column(primary_key=True)
    node_name: Mapped[str]
    slot: Mapped[str]  # cpu, cuda or light
    num_slots: Mapped[int]
    token: Mapped[str]
    lease_until: Mapped[datetime]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    sent_at: Mapped[datetime | None]
    claimed_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    num_relayed: Mapped[int] = mapped_column(default=0)  # lines of the process's events.jsonl that are job_event rows
    num_nodes: Mapped[int] = mapped_column(default=1, server_default="1")
    rendezvous_address: Mapped[str | None]
    rendezvous_port: Mapped[int | None]
    loss: Mapped[dict[str, Any] | None]  # of a node but the first: why its processes ended (trainer/outcome.py)


class Model(Owned, Base):
    """An exported, servable encoder."""

    __tablename__ = "model"
    __table_args__ = (Index("model_by_tenant", "tenant", "id"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    job_id: Mapped[str | None] = mapped_column(ForeignKey("job.id", ondelete="SET NULL", use_alter=True))
    dataset_id: Mapped[str | None] = mapped_column(ForeignKey("dataset.id", ondelete="SET NULL"))
    recipe: Mapped[dict[str, Any]]
    preprocessing: Mapped[dict[str, Any]]
    layers: Mapped[dict[str, Any]]  # {"stem": 16, ..., "h": 128, "z": 128}
    parity_cosine: Mapped[float]
    files: Mapped[dict[str, Any]]  # {name: {"key", "sha256", "num_bytes"}}
    probes: Mapped[dict[str, Any]] = mapped_column(default=dict)  # {"linear_probe": {"top1", "job_id", ...}, ...}
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    variants: Mapped[dict[str, Any]] = mapped_column(default=FLOAT32_ALONE)  # {name: {"status", "cosine", ...}}


class Alias(Owned, Base):
    """A name that serves a model; `production` serves when no model is named."""

    __tablename__ = "alias"
    __table_args__ = (PrimaryKeyConstraint("tenant", "name"),)

    name: Mapped[str]
    model_id: Mapped[str] = mapped_column(ForeignKey("model.id"))
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class AliasChange(Owned, Base):
    """The history of an alias."""

    __tablename__ = "alias_change"
    __table_args__ = (Index("alias_change_by_alias", "tenant", "alias", "id"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    alias: Mapped[str]
    model_id: Mapped[str]
    previous_model_id: Mapped[str | None]
    at: Mapped[datetime] = mapped_column(server_default=func.now())


class Image(Owned, Base):
    """An uploaded image; its id is the sha256 of its bytes. Tenants with the same one have a row and a blob each."""

    __tablename__ = "image"
    __table_args__ = (PrimaryKeyConstraint("tenant", "id"),)

    id: Mapped[str]
    key: Mapped[str]
    format: Mapped[str]
    width: Mapped[int]
    height: Mapped[int]
    num_bytes: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Collection(Owned, Base):
    """A named set of images to search in."""

    __tablename__ = "collection"
    __table_args__ = (UniqueConstraint("tenant", "name"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class CollectionImage(Owned, Base):
    """An image in a collection, with what its owner says of it there."""

    __tablename__ = "collection_image"
    __table_args__ = (
        ForeignKeyConstraint(["tenant", "image_id"], ["image.tenant", "image.id"], ondelete="CASCADE"),
        Index("collection_image_by_image", "tenant", "image_id"),
        Index("collection_image_by_label", "collection_id", "label"),
        Index(
            "collection_image_by_metadata",
            "metadata",
            postgresql_using="gin",
            postgresql_ops={"metadata": "jsonb_path_ops"},
        ),
    )

    collection_id: Mapped[str] = mapped_column(ForeignKey("collection.id", ondelete="CASCADE"), primary_key=True)
    image_id: Mapped[str] = mapped_column(primary_key=True)
    label: Mapped[str | None]
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata", default=dict)
    filename: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class EmbeddingTable(Owned, Base):
    """The table emb_<number> that holds one layer of one model for every indexed image."""

    __tablename__ = "embedding_table"
    __table_args__ = (Index("embedding_table_of_model", "model_id", "layer", unique=True),)

    number: Mapped[int] = mapped_column(Identity(), primary_key=True)
    model_id: Mapped[str] = mapped_column(ForeignKey("model.id", ondelete="CASCADE"))
    layer: Mapped[str]
    size: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    # What was measured when its index was built (service/core/recall.py); null as long as there is none.
    ef_search: Mapped[int | None]
    recall: Mapped[float | None]  # recall@10 of the index, against exact search
    num_measured: Mapped[int | None]  # vectors in the table at that time
    measured_at: Mapped[datetime | None]


class ApiKey(Owned, Base):
    """A key that requests carry. Of its secret there is only the sha256: who reads this table can't use it."""

    __tablename__ = "api_key"
    __table_args__ = (UniqueConstraint("secret_sha256"), Index("api_key_by_tenant", "tenant", "id"))

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    secret_sha256: Mapped[str]
    prefix: Mapped[str]  # of the secret, to tell keys apart
    scopes: Mapped[list[str]]
    limits: Mapped[dict[str, Any]]  # service/core/quotas.py
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]  # to a minute or so


class AuditEntry(Base):
    """A change that was asked for over HTTP, and what came of it. It outlives what it tells of."""

    __tablename__ = "audit"
    __table_args__ = (Index("audit_by_tenant", "tenant", "id"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=func.now())
    tenant: Mapped[str | None]  # null: refused without a key that is known
    key_id: Mapped[str | None]  # null too where keys are not required
    action: Mapped[str]  # the operation's id in the OpenAPI document
    resource: Mapped[str]  # its path; of what was made, the new thing's
    request_id: Mapped[str]
    status: Mapped[int]
