"""Reports of jobs over HTTP."""

from typing import Any

import httpx
import pytest
from sqlalchemy import func

from models.ablation import AblationRecipe
from service.core import jobs
from service.core.db import Database
from service.core.ids import new_id
from service.core.tables import Job, Node, Placement
from service.report.html import report_page
from tests.service.conftest import add_dataset, add_model, begin
from tests.service.report.samples import linear_probe

PAGE = "text/html"
RESULT: dict[str, Any] = linear_probe()["job"]["result"]


@pytest.fixture
def probe_id(database: Database) -> str:
    """A linear probe that succeeded."""
    with database.transaction() as session:
        columns: dict[str, Any] = {"dataset_id": add_dataset(session).id, "model_id": add_model(session).id}
        job = jobs.submit(session, kind="linear_probe", recipe={"seed": 0}, **columns)
        return jobs.succeed(session, begin(session, job.id), RESULT).id


@pytest.fixture
def pretrain_id(database: Database) -> str:
    """A pretraining job that runs."""
    with database.transaction() as session:
        job = jobs.submit(session, kind="pretrain", recipe={}, dataset_id=add_dataset(session).id)
        return begin(session, job.id).id


def get(api: httpx.Client, job_id: str, accept: str = "*/*", **query: str) -> httpx.Response:
    return api.get(f"/v1/jobs/{job_id}/report", headers={"Accept": accept}, params=query)


def test_a_report_has_all_of_a_job(api: httpx.Client, probe_id: str) -> None:
    """Job, data set and model with its probes, as their own paths show them."""
    report = get(api, probe_id).json()
    assert report["job"] == api.get(f"/v1/jobs/{probe_id}").json()
    assert report["dataset"] == api.get(f"/v1/datasets/{report['job']['dataset_id']}").json()
    assert report["model"] == api.get(f"/v1/models/{report['job']['model_id']}").json()
    assert (report["metrics"], report["table"], report["warnings"]) == (None, None, [])


def test_the_form_is_that_of_the_accept_header(api: httpx.Client, probe_id: str) -> None:
    """JSON for a program, the page for a browser, the picture for an image; caches are told."""
    for accept, media_type in (("*/*", "application/json"), (PAGE, PAGE), ("image/avif,image/*", "image/png")):
        response = get(api, probe_id, accept)
        assert response.status_code == 200
        assert response.headers["content-type"].partition(";")[0] == media_type
        assert response.headers["vary"] == "Accept"


def test_the_query_wins_over_the_header(api: httpx.Client, probe_id: str) -> None:
    """A link to the picture gives it to a browser that would have the page."""
    picture = get(api, probe_id, PAGE, format="png")
    assert picture.headers["content-type"] == "image/png"
    assert picture.content == get(api, probe_id, "image/png").content
    assert get(api, probe_id, PAGE, format="json").json() == get(api, probe_id).json()
    assert get(api, probe_id, format="html").text == get(api, probe_id, PAGE).text
    wrong = get(api, probe_id, format="pdf")
    assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (422, "format")


def test_the_page_is_that_of_the_json(api: httpx.Client, probe_id: str) -> None:
    """Who has fetched the JSON can make the same page; it may load nothing but what it holds."""
    response = get(api, probe_id, PAGE)
    assert response.text == report_page(get(api, probe_id).json())
    policy = {part.strip() for part in response.headers["content-security-policy"].split(";")}
    assert {"default-src 'none'", "style-src 'unsafe-inline'", "img-src data:"} <= policy
    assert "script-src" not in response.headers["content-security-policy"]
    assert response.headers["content-type"] == "text/html; charset=utf-8"


def test_attempts_tell_where_they_ran_and_why_they_ended(
    api: httpx.Client, database: Database, pretrain_id: str
) -> None:
    """The first was lost on a node with a GPU, the second runs; a node that is gone has no device."""
    placed = {"node_rank": 0, "slot": "cuda", "num_slots": 2, "lease_until": func.now()}
    with database.transaction() as session:
        devices = {"cpu": {"num_cores": 8}, "cuda": [{"name": "H100", "memory_bytes": 1}]}
        session.add(Node(name="node-a", address="::1", slots={}, devices=devices, versions={}))
        for attempt, node in ((1, "node-a"), (2, "node-b")):
            session.add(Placement(job_id=pretrain_id, attempt=attempt, node_name=node, token=node, **placed))
        jobs.lose(session, jobs.hold(session, pretrain_id, 1), "rank_killed", "killed", max_attempts=3)
        begin(session, pretrain_id)
        jobs.record_event(session, pretrain_id, 2, "warning", {"code": "not_compiled", "message": "install gcc"})
    report = get(api, pretrain_id).json()
    first, second = report["attempts"]
    assert (first["attempt"], first["status"], first["reason"]) == (1, "queued", "rank_killed")
    assert first["processes"] == [{"node": "node-a", "slot": "cuda", "num_processes": 2, "device": "H100"}]
    assert first["started_at"] <= first["ended_at"] <= second["started_at"]
    assert (second["attempt"], second["status"], second["reason"], second["ended_at"]) == (2, "running", None, None)
    assert second["processes"][0]["device"] is None
    assert report["warnings"] == [{"code": "not_compiled", "message": "install gcc"}]


def test_a_running_job_shows_its_curves_so_far(api: httpx.Client, database: Database, pretrain_id: str) -> None:
    """No picture at first; then of the metrics, which are thinned to a thousand points with the newest."""
    assert get(api, pretrain_id, format="png").status_code == 404
    with database.transaction() as session:
        job = jobs.hold(session, pretrain_id, 1)
        jobs.record_events(session, job, [("metrics", {"step": step, "loss": 1 / step}) for step in range(1, 2102)])
    metrics = get(api, pretrain_id).json()["metrics"]
    assert (len(metrics["step"]), len(metrics["loss"]), metrics["step"][-1]) == (1000, 1000, 2101)
    assert get(api, pretrain_id, format="png").headers["content-type"] == "image/png"
    assert "So far" in get(api, pretrain_id, PAGE).text


def test_an_unfinished_ablation_has_the_table_so_far(api: httpx.Client, database: Database) -> None:
    """One of two runs is measured, the other trains: a mean, and what is missing."""
    recipe = AblationRecipe.model_validate({"grid": {"loss.temperature": [0.1, 1.0]}})
    with database.transaction() as session:
        dataset_id = add_dataset(session).id
        ablation = jobs.submit(session, kind="ablation", recipe=recipe.model_dump(mode="json"), dataset_id=dataset_id)
        begin(session, ablation.id)
        children: list[Job] = []
        for values in recipe.cells():
            about: dict[str, Any] = {"parent_id": ablation.id, "cell": {"values": values, "seed": 0}}
            child = jobs.submit(session, kind="pretrain", recipe={}, dataset_id=dataset_id, **about)
            children.append(begin(session, child.id))
        model_id = add_model(session).id
        trained = jobs.succeed(session, children[0], {"model_id": model_id, "measures": {"entropy": 2.5}})
        about = {"parent_id": ablation.id, "cell": trained.cell, "model_id": model_id}
        probe = jobs.submit(session, kind="linear_probe", recipe={}, dataset_id=dataset_id, **about)
        jobs.succeed(session, begin(session, probe.id), RESULT)
        ablation_id, other_id = ablation.id, children[1].id
    table = get(api, ablation_id).json()["table"]
    assert [cell["mean"] for cell in table["cells"]] == [0.7, None]
    assert table["cells"][0]["runs"][0]["num_test"] == 30
    assert table["cells"][1]["missing"] == [{"seed": 0, "job_id": other_id, "status": "running", "error": None}]
    assert other_id in get(api, ablation_id, PAGE).text
    assert get(api, ablation_id, format="png").headers["content-type"] == "image/png"


def test_a_kind_with_nothing_to_draw_has_no_picture(api: httpx.Client, database: Database) -> None:
    """404 with a code of its own and the kinds that have one; its page and JSON are there."""
    with database.transaction() as session:
        job_id = jobs.submit(session, kind="ingest", recipe={}, dataset_id=add_dataset(session).id).id
    response = get(api, job_id, format="png")
    assert (response.status_code, response.json()["code"]) == (404, "no_picture")
    assert "layer_sweep, transform_probe, ablation" in response.json()["detail"]
    assert get(api, job_id, PAGE).status_code == get(api, job_id).status_code == 200


@pytest.mark.parametrize("form", ["json", "html", "png"])
def test_an_unknown_job_has_no_report(api: httpx.Client, form: str) -> None:
    """404 in every form."""
    response = get(api, new_id("job"), format=form)
    assert (response.status_code, response.json()["code"]) == (404, "not_found")


def test_all_three_forms_are_documented(api: httpx.Client) -> None:
    """OpenAPI has the media types, and the JSON's schema."""
    operation = api.get("/openapi.json").json()["paths"]["/v1/jobs/{job_id}/report"]["get"]
    content = operation["responses"]["200"]["content"]
    assert set(content) == {"application/json", "text/html", "image/png"}
    assert content["application/json"]["schema"] == {"$ref": "#/components/schemas/Report"}
    assert [parameter["name"] for parameter in operation["parameters"]] == ["job_id", "format"]
