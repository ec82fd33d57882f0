"""What the tests of the job plane share: a host whose processes are fake, jobs on it, and waiting."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from service.core import jobs
from service.core.db import Database
from service.core.settings import Settings
from service.core.tables import DEFAULT_TENANT, Dataset, Job, JobEvent, Model, Node, Placement
from trainer import placing
from trainer.agent import Agent
from trainer.host import Host
from trainer.process import COMMANDS

FAKE = (sys.executable, str(Path(__file__).with_name("fake_process.py")))
FAKES = dict.fromkeys(COMMANDS, FAKE)
LEASE_SECONDS = 2
MODEL_JSON = (
    '{"recipe": {}, "preprocessing": {}, "layers": {"h": 4}, "parity_cosine": 1.0,'
    ' "variants": {"float32": {"status": "published"}}}'
)


def make_settings(data_dir: Path, postgres_url: str, redis_url: str = "", **fields: Any) -> Settings:
    """Settings of a node that gives leases of two seconds."""
    defaults: dict[str, Any] = {"node_name": "node-a", "lease_seconds": LEASE_SECONDS}
    defaults |= {"data_dir": data_dir, "database_url": postgres_url, "redis_url": redis_url}
    return Settings(_env_file=None, **(defaults | fields))


def add_node(database: Database, name: str = "node-a", **slots: int) -> None:
    """A live node without a worker."""
    with database.transaction() as session:
        row = Node(name=name, address="::1", slots={"cpu": 1, "light": 2} | slots, devices={}, versions={})
        row.rendezvous_port = 29_500
        session.merge(row).heartbeat_at = func.now()


def add_dataset(database: Database, **columns: Any) -> str:
    """The id of a new data set; ready and without files unless `columns` say otherwise."""
    defaults = {"status": "ready", "files": {}, "archive_key": "datasets/ds_1/archive", "archive_sha256": "0"}
    fixed = {"id": "ds_1", "name": "d", "on_invalid": "reject", "archive_name": "a.zip"}
    with database.transaction() as session:
        session.add(Dataset(**(fixed | defaults | columns)))
    return "ds_1"


def add_model(database: Database, model_id: str = "mdl_1", **columns: Any) -> str:
    """The id of a new model without files."""
    empty: dict[str, Any] = {"recipe": {}, "preprocessing": {}, "layers": {}, "files": {}}
    with database.transaction() as session:
        session.add(Model(id=model_id, parity_cosine=1, **(empty | columns)))
    return model_id


def submit(database: Database, kind: str = "index", **fields: Any) -> str:
    """The id of a new job; an index job has a model, the others have a data set."""
    recipe = fields.pop("recipe", {})
    with database.transaction() as session:
        return jobs.submit(session, kind=kind, recipe=recipe, **{"tenant": DEFAULT_TENANT, **fields}).id


def place(database: Database) -> list[Placement]:
    """Place what can be placed; all open placements that no agent has claimed."""
    with database.transaction() as session:
        placing.place_jobs(session, lease_seconds=LEASE_SECONDS)
    with database.transaction() as session:
        unclaimed = Placement.ended_at.is_(None), Placement.claimed_at.is_(None)
        return list(session.scalars(select(Placement).where(*unclaimed).order_by(Placement.created_at)))


def agent_for(host: Host, job_id: str) -> Agent:
    """The agent of the job's next attempt, which is placed on a live node for it."""
    add_node(host.database)
    row = next(row for row in place(host.database) if row.job_id == job_id)
    return Agent(host, row.job_id, row.attempt, row.token)


def get(database: Database, job_id: str) -> Job:
    """The job's row."""
    with database.transaction() as session:
        return session.get_one(Job, job_id)


def events(database: Database, job_id: str, type_: str | None = None) -> list[JobEvent]:
    """The job's events, of one type or all."""
    with database.transaction() as session:
        found = jobs.events_after(session, job_id, 0, 10_000)
    return [event for event in found if type_ in {None, event.type}]


def statuses(database: Database, job_id: str) -> list[str]:
    """The statuses that the job went through."""
    return [event.data["status"] for event in events(database, job_id, "status")]


def wait_until(condition: Callable[[], object], seconds: float = 15) -> float:
    """Poll until the condition holds; how many seconds that took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, "in time it didn't come true"
        time.sleep(0.02)
    return time.monotonic() - began


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie doesn't."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def pids_in(path: Path) -> list[int]:
    """The process ids that the fake process wrote."""
    return [int(pid) for pid in path.read_text().split()]


def assert_gone(path: Path, seconds: float = 2) -> None:
    """All processes named in the file end in time."""
    wait_until(lambda: not any(is_alive(pid) for pid in pids_in(path)), seconds)


def environment_of(settings: Settings) -> dict[str, str]:
    """Environment that gives another process these settings."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("SIMCLR_")}
    names = ("data_dir", "database_url", "redis_url", "node_name", "lease_seconds", "max_attempts", "num_cpu_slots")
    return own | {f"SIMCLR_{name.upper()}": str(getattr(settings, name)) for name in names}
