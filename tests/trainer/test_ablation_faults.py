"""An ablation of twenty jobs on a worker that is killed, with one of its runs cancelled."""

import signal
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import select

from models.ablation import AblationRecipe
from service.core import jobs
from service.core.db import Database
from service.core.settings import Settings
from service.core.tables import Job, Placement
from tests.trainer.job_plane import FAKES, add_dataset, get, make_settings, submit, wait_until
from tests.trainer.test_worker import worker

RUN = (sys.executable, str(Path(__file__).with_name("fake_ablation_run.py")))
COMMANDS = {**FAKES, "pretrain": RUN, "linear_probe": RUN}
TEMPERATURES = [0.1 * (1 + i) for i in range(10)]


@pytest.fixture
def settings(tmp_path: Path, postgres_url: str, redis_url: str) -> Settings:
    """Settings of a worker that runs two jobs at once."""
    name = f"node-{tmp_path.name}"[:64]
    return make_settings(tmp_path, postgres_url, redis_url, node_name=name, num_cpu_slots=2)


def children(database: Database, ablation: str) -> list[Job]:
    """Its child jobs, oldest first."""
    with database.transaction() as session:
        return list(session.scalars(select(Job).where(Job.parent_id == ablation).order_by(Job.created_at, Job.id)))


def running(database: Database, ablation: str) -> list[str]:
    """Ids of the children that a worker holds."""
    return [child.id for child in children(database, ablation) if child.status == "running"]


def is_frozen_with_a_job(process: subprocess.Popen[bytes], database: Database, ablation: str) -> bool:
    """Whether the worker, frozen now, holds a job of the ablation; else it goes on."""
    process.send_signal(signal.SIGSTOP)
    if running(database, ablation):
        return True
    process.send_signal(signal.SIGCONT)
    return False


def test_it_survives_a_killed_worker_and_a_cancelled_child_and_says_what_is_missing(
    database: Database, settings: Settings
) -> None:
    """Ten trainings, nine probes, each done once; the cancelled run is missing by name; a killed one starts again."""
    recipe = AblationRecipe.model_validate({"grid": {"loss.temperature": TEMPERATURES}}).model_dump(mode="json")
    dataset_id = add_dataset(database)
    ablation = submit(database, "ablation", dataset_id=dataset_id, recipe=recipe, resources={"device": "cpu"})
    with ExitStack() as workers:
        first = workers.enter_context(worker(settings, COMMANDS))
        wait_until(lambda: sum(child.status == "succeeded" for child in children(database, ablation)) >= 3)
        wait_until(lambda: is_frozen_with_a_job(first, database, ablation))
        held = running(database, ablation)
        first.kill()
        last = [child for child in children(database, ablation) if child.kind == "pretrain"][-1]
        with database.transaction() as session:
            assert jobs.request_cancel(session, last.id).status == "cancelled"
        workers.enter_context(worker(settings.model_copy(update={"node_name": "node-b"}), COMMANDS))
        wait_until(lambda: get(database, ablation).status == "succeeded", seconds=90)
    of_both = children(database, ablation)
    assert Counter((child.kind, child.status) for child in of_both) == {
        ("pretrain", "succeeded"): 9,
        ("pretrain", "cancelled"): 1,
        ("linear_probe", "succeeded"): 9,
    }
    assert len({child.model_id for child in of_both if child.kind == "linear_probe"}) == 9
    with database.transaction() as session:
        attempts = session.scalars(select(Placement.attempt).where(Placement.job_id.in_(held))).all()
    assert max(attempts) == 2
    result = get(database, ablation).result
    assert result is not None
    assert result["num_missing"] == 1
    (missing,) = result["cells"][-1]["missing"]
    assert (missing["job_id"], missing["status"]) == (last.id, "cancelled")
    assert [cell["mean"] for cell in result["cells"]] == [0.5] * 9 + [None]
