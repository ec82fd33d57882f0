"""Ablations go on by their children, whoever looks at them and whatever is lost."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from models.ablation import AblationRecipe
from service.core import jobs
from service.core.db import Database
from service.core.tables import Job, Model
from tests.trainer.job_plane import add_dataset, add_model, add_node, events, get, place, statuses, submit
from trainer.ablation import advance_ablations

GRID = {"loss.normalize": [True, False], "loss.temperature": [0.1, 1.0]}


@pytest.fixture
def ablation(database: Database) -> str:
    """A queued ablation of 2 x 2 combinations and two seeds: eight runs."""
    recipe = AblationRecipe.model_validate({"grid": GRID, "seeds": [0, 1]}).model_dump(mode="json")
    fields = {"recipe": recipe, "resources": {"device": "cpu"}, "tenant": "theirs"}
    return submit(database, "ablation", dataset_id=add_dataset(database), **fields)


def look(database: Database) -> None:
    """One look of a leader."""
    with database.engine.connect() as connection:
        advance_ablations(connection)


def children(database: Database, ablation: str, kind: str = "pretrain", *statuses: str) -> list[Job]:
    """Its children of a kind, in the grid's order, in these states or all."""
    with database.transaction() as session:
        found: Sequence[Job] = session.scalars(
            select(Job).where(Job.parent_id == ablation, Job.kind == kind).order_by(Job.id)
        ).all()
    return [child for child in found if not statuses or child.status in statuses]


def succeed(database: Database, job: Job, result: dict[str, Any]) -> None:
    """A worker does the job."""
    with database.transaction() as session:
        row = session.get_one(Job, job.id)
        jobs.succeed(session, jobs.start(session, row), result)


def fail(database: Database, job: Job) -> None:
    """A worker can't do the job."""
    with database.transaction() as session:
        jobs.fail(session, jobs.start(session, session.get_one(Job, job.id)), "non_finite_loss", "NaN")


def train(database: Database, job: Job) -> None:
    """A pretraining job makes a model."""
    succeed(database, job, {"model_id": add_model(database, f"mdl_of_{job.id}"), "measures": {"entropy": 2.5}})


def probe(database: Database, job: Job, top1: float, held_out_top1: float | None = None) -> None:
    """A probe measures one; by SGD without training images held out."""
    result = {"top1": top1, "confidence_interval": [top1 - 0.1, top1 + 0.1]}
    succeed(database, job, result if held_out_top1 is None else {**result, "held_out_top1": held_out_top1})


def test_it_fans_out_into_a_job_for_each_combination_and_seed(database: Database, ablation: str) -> None:
    """Eight pretraining jobs of the varied recipe and its tenant, with its resources; a second look adds none."""
    look(database)
    look(database)
    found = children(database, ablation)
    assert [(child.cell["values"]["loss.normalize"], child.cell["seed"]) for child in found if child.cell] == [
        (normalize, seed) for normalize in (True, False) for _ in range(2) for seed in (0, 1)
    ]
    third = found[2]
    assert (third.recipe["loss"]["temperature"], third.recipe["seed"], third.status) == (1.0, 0, "queued")
    assert third.resources == {"device": "cpu"}
    assert {child.tenant for child in found} == {"theirs"}
    add_node(database, cpu=20)
    assert ablation not in {row.job_id for row in place(database)}
    assert statuses(database, ablation) == ["queued", "running"]


def test_each_model_is_probed_once_and_the_table_has_mean_and_spread(database: Database, ablation: str) -> None:
    """Means over seeds, the sample's standard deviation, the choice, progress over all 16 jobs."""
    look(database)
    for child in children(database, ablation):
        train(database, child)
        look(database)
        look(database)
    probes = children(database, ablation, "linear_probe")
    assert [child.model_id for child in probes] == [f"mdl_of_{c.id}" for c in children(database, ablation)]
    for number, child in enumerate(probes):
        assert get(database, ablation).status == "running"
        assert get(database, ablation).progress == {"step": 8 + number, "steps": 16}
        probe(database, child, 0.5 + number / 100, held_out_top1=0.5 - number / 100)
        look(database)
    job = get(database, ablation)
    assert job.status == "succeeded"
    assert job.result is not None
    cells = job.result["cells"]
    assert [cell["values"]["loss.temperature"] for cell in cells] == [0.1, 1.0, 0.1, 1.0]
    assert [cell["mean"] for cell in cells] == pytest.approx([0.505, 0.525, 0.545, 0.565])
    assert [cell["std"] for cell in cells] == pytest.approx([0.01 / 2**0.5] * 4)
    assert job.result["best"] == {"loss.normalize": True, "loss.temperature": 0.1}  # on what was held out; not by top-1
    assert job.result["num_missing"] == 0
    assert cells[0]["runs"][1]["probe_job_id"] == probes[1].id
    assert cells[0]["runs"][1]["measures"] == {"entropy": 2.5}
    assert [event.data["step"] for event in events(database, ablation, "metrics")] == list(range(1, 17))


def test_the_table_says_what_is_missing(database: Database, ablation: str) -> None:
    """A failed and a cancelled run are listed with their reason; the others count."""
    look(database)
    first, second, *others = children(database, ablation)
    fail(database, first)
    with database.transaction() as session:
        jobs.request_cancel(session, second.id)
    for child in others:
        train(database, child)
    look(database)
    for child in children(database, ablation, "linear_probe"):
        probe(database, child, 0.5)
    look(database)
    job = get(database, ablation)
    assert job.status == "succeeded"
    assert job.result is not None
    empty = job.result["cells"][0]
    assert (empty["mean"], empty["std"], empty["runs"]) == (None, None, [])
    assert [(run["seed"], run["status"]) for run in empty["missing"]] == [(0, "failed"), (1, "cancelled")]
    assert empty["missing"][0]["error"] == {"code": "non_finite_loss", "message": "NaN"}
    assert job.result["num_missing"] == 2
    assert job.result["cells"][1]["mean"] == 0.5
    assert job.result["best"] is None  # nothing was held out to choose by


def test_a_cancel_is_that_of_all_its_jobs(database: Database, ablation: str) -> None:
    """Queued ones at once; it is cancelled when the last running one is."""
    look(database)
    with database.transaction() as session:
        running = jobs.start(session, session.get_one(Job, children(database, ablation)[0].id))
    add_node(database)
    with database.transaction() as session:
        claimed = {"node_rank": 0, "node_name": "node-a", "slot": "cpu", "num_slots": 1, "token": "t", "num_relayed": 0}
        session.add(jobs.Placement(job_id=running.id, attempt=1, lease_until=jobs.func.now(), **claimed))
        session.flush()
        session.get_one(jobs.Placement, (running.id, 1, 0)).claimed_at = jobs.func.now()
    with database.transaction() as session:
        jobs.request_cancel(session, ablation)
    look(database)
    assert get(database, ablation).status == "cancelling"
    assert len(children(database, ablation, "pretrain", "cancelled")) == 7
    with database.transaction() as session:
        jobs.leave(session, jobs.hold(session, running.id, 1), "t")
    look(database)
    assert statuses(database, ablation) == ["queued", "running", "cancelling", "cancelled"]
    assert children(database, ablation, "linear_probe") == []


def test_a_resumed_ablation_runs_what_it_lacks(database: Database, ablation: str) -> None:
    """Cancelled children are queued again, those that had succeeded stay, and no child is doubled."""
    look(database)
    first, *_ = children(database, ablation)
    train(database, first)
    look(database)
    with database.transaction() as session:
        jobs.request_cancel(session, ablation)
    look(database)
    assert get(database, ablation).status == "cancelled"
    with database.transaction() as session:
        jobs.resume(session, ablation)
    look(database)
    assert get(database, ablation).status == "running"
    assert len(children(database, ablation)) == 8
    assert len(children(database, ablation, "pretrain", "queued")) == 7
    assert len(children(database, ablation, "linear_probe", "queued")) == 1


def test_an_ablation_without_a_result_fails_and_says_why(database: Database, ablation: str) -> None:
    """All its runs failed in the same way."""
    look(database)
    for child in children(database, ablation):
        fail(database, child)
    look(database)
    job = get(database, ablation)
    assert (job.status, job.error) == (
        "failed",
        {"code": "nothing_measured", "message": "none of its runs succeeded: non_finite_loss"},
    )


def test_the_parts_belong_to_the_trace_of_the_whole(database: Database) -> None:
    """They are queued by the scheduler, long after the request."""
    recipe = AblationRecipe.model_validate({"grid": GRID, "seeds": [0]}).model_dump(mode="json")
    fields = {"recipe": recipe, "traceparent": "00-trace-span-01"}
    ablation = submit(database, "ablation", dataset_id=add_dataset(database), **fields)
    look(database)
    assert [child.traceparent for child in children(database, ablation)] == ["00-trace-span-01"] * 4


def delete_model(database: Database, model_id: str | None) -> None:
    """As DELETE /v1/models/{id} does, which refuses it only while an unfinished job names the model."""
    with database.transaction() as session:
        session.delete(session.get_one(Model, model_id))


def test_a_model_that_is_deleted_after_its_probe_is_not_probed_again(database: Database, ablation: str) -> None:
    """What was measured stays in the table."""
    look(database)
    first, second, *_ = children(database, ablation)
    train(database, first)
    look(database)
    (probed,) = children(database, ablation, "linear_probe")
    probe(database, probed, 0.5)
    look(database)
    delete_model(database, probed.model_id)
    train(database, second)
    look(database)
    assert [child.cell for child in children(database, ablation, "linear_probe")] == [first.cell, second.cell]
    for child in children(database, ablation, "pretrain", "queued"):
        fail(database, child)
    probe(database, children(database, ablation, "linear_probe")[1], 0.7)
    look(database)
    job = get(database, ablation)
    assert job.result is not None
    runs = job.result["cells"][0]["runs"]
    assert [(run["top1"], run["model_id"]) for run in runs] == [(0.5, None), (0.7, f"mdl_of_{second.id}")]


def test_a_model_that_is_deleted_before_its_probe_is_missing(database: Database, ablation: str) -> None:
    """The table says why; the others are probed."""
    look(database)
    first, *others = children(database, ablation)
    train(database, first)
    delete_model(database, f"mdl_of_{first.id}")
    for child in others:
        train(database, child)
    look(database)
    probes = children(database, ablation, "linear_probe")
    assert [child.cell for child in probes] == [child.cell for child in others]
    for child in probes:
        probe(database, child, 0.5)
    look(database)
    job = get(database, ablation)
    assert job.result is not None
    (missing,) = job.result["cells"][0]["missing"]
    assert (missing["job_id"], missing["error"]["code"]) == (first.id, "model_deleted")


@pytest.mark.parametrize("num_seeds", [1, 2])
def test_an_ablation_whose_model_was_deleted_is_resumed_without_its_probe(database: Database, num_seeds: int) -> None:
    """The other runs are done; where there is none, it ends all the same."""
    recipe = AblationRecipe.model_validate({"grid": {"loss.temperature": [1.0]}, "seeds": list(range(num_seeds))})
    fields = {"recipe": recipe.model_dump(mode="json")}
    ablation = submit(database, "ablation", dataset_id=add_dataset(database), **fields)
    look(database)
    first, *others = children(database, ablation)
    train(database, first)
    look(database)
    with database.transaction() as session:
        jobs.request_cancel(session, ablation)
    look(database)
    delete_model(database, f"mdl_of_{first.id}")
    with database.transaction() as session:
        jobs.resume(session, ablation)
    look(database)
    for child in others:
        train(database, child)
        look(database)
        probe(database, children(database, ablation, "linear_probe", "queued")[0], 0.5)
    look(database)
    job = get(database, ablation)
    if others:
        assert job.result is not None
        assert (job.result["cells"][0]["mean"], job.result["num_missing"]) == (0.5, 1)
    else:
        assert job.error == {"code": "nothing_measured", "message": "none of its runs succeeded: cancelled"}


def test_an_ablation_that_cannot_go_on_fails_alone(database: Database, ablation: str) -> None:
    """Such as one that another release stored: what comes behind it goes on."""
    recipe = {"grid": {"no.such.field": [1, 2]}, "seeds": [0], "base": {}, "probe": {}}
    broken = submit(database, "ablation", dataset_id=get(database, ablation).dataset_id, recipe=recipe)
    with database.transaction() as session:
        session.get_one(Job, broken).priority_at = get(database, ablation).priority_at - timedelta(seconds=1)
    look(database)
    job = get(database, broken)
    assert job.error is not None
    assert (job.status, job.error["code"]) == ("failed", "broken")
    assert "no.such.field" in job.error["message"]
    assert get(database, ablation).status == "running"


def test_an_ablation_that_cannot_go_on_leaves_no_jobs_behind(database: Database, ablation: str) -> None:
    """Nobody would make a table of what they measure."""
    look(database)
    first, *others = children(database, ablation)
    with database.transaction() as session:
        session.get_one(Job, ablation).recipe = {}
    fail(database, first)
    look(database)
    assert get(database, ablation).status == "failed"
    assert [child.status for child in children(database, ablation)] == ["failed"] + ["cancelled"] * len(others)
