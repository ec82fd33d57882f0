"""Jobs in the browser, without a worker: the form, what a failure says, the list."""

import json
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from playwright.sync_api import Page, Request, Route, expect

from models.config import pretrain_recipe
from service.client import Client
from service.core import jobs
from tests.service.conftest import add_dataset, add_model, begin
from tests.web.conftest import Gallery, OpenTab, api_json, cut_choices

RECIPE = pretrain_recipe({"preset": "cpu-small"}).model_dump(mode="json")
HIDE = """(isHidden) => {
    Object.defineProperty(document, "hidden", {configurable: true, get: () => isHidden});
    document.dispatchEvent(new Event("visibilitychange"));
}"""


def is_stream(request: Request) -> bool:
    return "/v1/jobs?" in request.url and request.headers.get("accept") == "text/event-stream"


def wait(page: Page, condition: Callable[[], bool]) -> None:
    """Until what the browser told satisfies `condition`; its events come while a call waits for it."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        page.wait_for_timeout(20)


@pytest.fixture
def dataset_id(gallery: Gallery) -> str:
    """A data set that says it is ready."""
    with gallery.database.transaction() as session:
        return add_dataset(session, name="<i>pets</i>").id


def test_a_job_is_started_with_what_was_changed(gallery: Gallery, open_tab: OpenTab, dataset_id: str) -> None:
    """The preset fills the form; what differs from it goes along, nested, and the job's recipe has it."""
    page = open_tab(gallery.url).page
    page.goto(f"/#/jobs/new?kind=pretrain&dataset={dataset_id}")
    page.get_by_label("Preset").select_option("cifar10")
    expect(page.get_by_label("Batch size", exact=True)).to_have_value("512")
    page.get_by_label("Preset").select_option("cpu-small")
    page.get_by_label("Batch size", exact=True).fill("32")
    page.get_by_label("Epochs", exact=True).fill("3")
    page.get_by_label("Warmup epochs").fill("1")
    page.locator("summary", has_text="Loss").click()
    page.get_by_label("Temperature").fill("0.25")
    page.locator("summary", has_text="Augmentation").click()
    page.get_by_label("Operations").fill("crop, color_jitter")
    page.get_by_role("button", name="Start").click()
    expect(page).to_have_url(re.compile("#/jobs/job_"))
    job = api_json(gallery.url, f"/v1/jobs/{page.url.rsplit('/', 1)[1]}")
    assert (job["kind"], job["dataset_id"]) == ("pretrain", dataset_id)
    recipe = job["recipe"]
    assert recipe["preset"] == "cpu-small"
    assert (recipe["batch_size"], recipe["schedule"]["epochs"], recipe["schedule"]["warmup_epochs"]) == (32, 3, 1)
    assert (recipe["loss"]["temperature"], recipe["loss"]["normalize"]) == (0.25, True)
    assert recipe["augmentation"]["operations"] == ["crop", "color_jitter"]
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".state .pill")).to_have_text("cancelled")
    page.get_by_role("button", name="Resume").click()
    expect(page.locator(".state .pill")).to_have_text("queued")


def test_errors_are_at_their_fields(gallery: Gallery, open_tab: OpenTab, dataset_id: str) -> None:
    """A value that the service refuses is marked by name, in a group that unfolds for it, and has the focus."""
    tab = open_tab(gallery.url)
    tab.expected = ["422"]
    page = tab.page
    page.goto(f"/#/jobs/new?kind=pretrain&dataset={dataset_id}")
    page.locator("summary", has_text="Loss").click()
    page.get_by_label("Temperature").fill("-1")
    page.locator("summary", has_text="Loss").click()
    page.get_by_label("Batch size", exact=True).fill("70000")
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_label("Batch size", exact=True)).to_be_focused()
    expect(page.get_by_label("Temperature")).to_be_visible()
    expect(page.get_by_label("Temperature")).to_have_accessible_description(
        re.compile("greater than or equal to 0.001")
    )
    page.get_by_label("Temperature").fill("0.1")
    page.get_by_label("Batch size", exact=True).fill("101")  # more than the data set has
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_label("Batch size", exact=True)).to_have_accessible_description(re.compile("at most 100"))
    expect(page.get_by_label("Temperature")).not_to_have_attribute("aria-invalid", "true")


def test_every_kind_is_started_by_its_form(gallery: Gallery, open_tab: OpenTab) -> None:
    """The kinds of the service, with the data set, model and collection that each takes: the API takes what is sent."""
    split = {"num_images": 1000, "per_class": [500, 500]}
    with gallery.database.transaction() as session:
        dataset_id = add_dataset(session, splits={"train": split, "test": split}).id
    page = open_tab(gallery.url).page
    subjects = f"dataset={dataset_id}&model={gallery.model_id}"
    kinds = api_json(gallery.url, "/v1/recipes")["schemas"]
    page.goto("/#/jobs/new")
    expect(page.get_by_label("Kind").locator("option")).to_have_text([kind.replace("_", " ") for kind in kinds])
    for kind in kinds:
        page.goto(f"/#/jobs/new?kind={kind}&{subjects}")
        expect(page.get_by_label("Kind").locator("option:checked")).to_have_text(kind.replace("_", " "))
        if kind == "ablation":
            page.locator("summary", has_text="Base").click()
            page.locator("[data-path='base.batch_size'] input").fill("32")
            page.get_by_label("Grid").fill('{"loss.temperature": [0.1, 0.5]}')
        page.get_by_role("button", name="Start").click()
        expect(page, kind).to_have_url(re.compile("#/jobs/job_"))
        job = api_json(gallery.url, f"/v1/jobs/{page.url.rsplit('/', 1)[1]}")
        assert job["kind"] == kind
        assert job["dataset_id"] == (None if kind in {"index", "map"} else dataset_id)
        assert job["model_id"] == (None if kind in {"pretrain", "ablation"} else gallery.model_id)
        page.get_by_role("button", name="Cancel").click()
        expect(page.locator(".state .pill")).to_have_text("cancelled")


def test_a_map_is_of_a_collection_chosen_by_name(gallery: Gallery, open_tab: OpenTab) -> None:
    """Collections are offered by name, none by its id; the chosen one is in the job's recipe."""
    page = open_tab(gallery.url).page
    with Client(gallery.url) as client:
        made = client.create_collection("chosen")
        page.goto(f"/#/jobs/new?kind=map&model={gallery.model_id}")
        page.get_by_label("Collection").select_option("chosen (0 images)")
        page.get_by_role("button", name="Start").click()
        expect(page).to_have_url(re.compile("#/jobs/job_"))
        job = api_json(gallery.url, f"/v1/jobs/{page.url.rsplit('/', 1)[1]}")
        client.delete_collection("chosen")
    assert job["recipe"]["collection_id"] == made["id"]
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".state .pill")).to_have_text("cancelled")


def test_models_are_told_apart_by_what_they_are_of(gallery: Gallery, open_tab: OpenTab) -> None:
    """The name of the data set, the accuracy and the time come first, and no name is wider than the field."""
    with gallery.database.transaction() as session:
        dataset = add_dataset(session, name="photographs of all our pets")
        made = {"dataset_id": dataset.id, "recipe": RECIPE, "created_at": datetime(2026, 1, 12, 14, 5, tzinfo=UTC)}
        plain = add_model(session, **made)
        probed = add_model(session, **made, probes={"linear_probe": {"top1": 0.583, "top5": 0.9}})
    page = open_tab(gallery.url, timezone_id="UTC").page
    page.goto(f"/#/jobs/new?kind=index&model={probed.id}")
    field = page.get_by_label("Model")
    of, rest = "photographs of all … · ", f"Jan 12, 14:05 · {RECIPE['encoder']['name']} · …"
    expect(field.locator("option:checked")).to_have_text(f"{of}58.3% linear · {rest}{probed.id[-6:]}")
    expect(field.locator("option", has_text=plain.id[-6:])).to_have_text(f"{of}{rest}{plain.id[-6:]}")
    expect(field.locator("option", has_text=gallery.model_id[-6:])).to_contain_text("production")
    assert cut_choices(page) == []
    with gallery.database.transaction() as session:
        for row in (plain, probed, dataset):
            session.delete(session.merge(row))


def test_backticks_of_descriptions_are_code(gallery: Gallery, open_tab: OpenTab) -> None:
    """No form shows one; what is between them is set as code."""
    page = open_tab(gallery.url).page
    for kind in api_json(gallery.url, "/v1/recipes")["schemas"]:
        page.goto(f"/#/jobs/new?kind={kind}")
        expect(page.get_by_label("Kind").locator("option:checked")).to_have_text(kind.replace("_", " "))
        expect(page.locator("form")).not_to_contain_text("`")
    page.goto("/#/jobs/new?kind=pretrain")
    expect(page.locator("[data-path='knn_every_epochs'] .help code")).to_have_text("knn_top1")


def test_a_failure_is_told_with_its_code(gallery: Gallery, open_tab: OpenTab, dataset_id: str) -> None:
    """The error, its code and the events; markup in a message is text; the curve goes on where a retry began again."""
    with gallery.database.transaction() as session:
        job = begin(session, jobs.submit(session, kind="pretrain", recipe=RECIPE, dataset_id=dataset_id).id)
        for step, loss in ((10, 5.0), (20, 4.0), (15, 4.5), (30, 3.0)):
            jobs.record_events(session, job, [("metrics", {"step": step, "steps": 30, "loss": loss})])
        jobs.record_events(session, job, [("warning", {"code": "slow", "message": "<b>slow</b>"})])
        jobs.fail(session, jobs.hold(session, job.id, 1), "non_finite_loss", "the loss is <i>NaN</i>")
    page = open_tab(gallery.url).page
    page.goto(f"/#/jobs/{job.id}")
    expect(page.locator(".notice.error")).to_have_text("the loss is <i>NaN</i> non_finite_loss")
    expect(page.locator(".notice.warning")).to_contain_text("<b>slow</b>")
    chart = page.locator("figure", has_text="loss")
    expect(chart.get_by_role("img")).to_have_accessible_description("From 5 at step 10 to 3 at step 30.")
    chart.get_by_text("As a table").click()
    expect(chart.locator("tbody tr")).to_have_count(3)
    page.get_by_text("Log", exact=True).click()
    expect(page.get_by_label("Log")).to_have_text("Nothing yet.")
    page.get_by_text("Report", exact=True).click()
    expect(page.get_by_role("link", name="Open the whole report")).to_be_visible()
    expect(page.locator("img.report")).to_be_visible()


def test_a_stream_that_breaks_goes_on_where_it_broke(gallery: Gallery, open_tab: OpenTab, dataset_id: str) -> None:
    """The connection after a broken one asks for what comes after the last event, and no point is there twice."""
    with gallery.database.transaction() as session:
        job = begin(session, jobs.submit(session, kind="pretrain", recipe=RECIPE, dataset_id=dataset_id).id)
        for step in (1, 2, 3):
            jobs.record_events(session, job, [("metrics", {"step": step, "steps": 3, "loss": 1 / step})])
    events = api_json(gallery.url, f"/v1/jobs/{job.id}/events")["items"]
    second = next(event for event in events if event["data"].get("step") == 2)
    asked = []
    page = open_tab(gallery.url).page

    def answer(route: Route) -> None:
        asked.append(route.request.headers["last-event-id"])
        if len(asked) > 1:
            route.continue_()
            return
        first_part = [event for event in events if event["id"] <= second["id"]]
        body = "".join(f"id: {event['id']}\ndata: {json.dumps(event)}\n\n" for event in first_part)
        route.fulfill(content_type="text/event-stream", body=f"{body}id: 99\ndata: {{")

    page.route("**/events", answer)
    page.goto(f"/#/jobs/{job.id}")
    chart = page.locator("figure", has_text="the training loss")
    expect(chart.get_by_role("img")).to_have_accessible_description("From 1 at step 1 to 0.3333 at step 3.")
    assert asked[:2] == ["0", str(second["id"])]
    chart.get_by_text("As a table").click()
    expect(chart.locator("tbody tr")).to_have_count(3)


def test_the_list_follows_what_happens(gallery: Gallery, open_tab: OpenTab, dataset_id: str) -> None:
    """A job that someone else starts, and its progress, are there without a reload; filters are in the address."""
    with gallery.database.transaction() as session:
        jobs.submit(session, kind="pretrain", recipe=RECIPE, dataset_id=dataset_id)
    page = open_tab(gallery.url).page
    page.goto("/#/jobs?kind=ingest")
    expect(page.get_by_role("heading", name="No jobs")).to_be_visible()
    page.get_by_label("Kind").select_option("pretrain")
    expect(page).to_have_url(f"{gallery.url}/#/jobs?kind=pretrain")
    expect(page.locator("tbody tr").first).to_be_visible()
    before = page.locator("tbody tr").count()
    with gallery.database.transaction() as session:
        job = begin(session, jobs.submit(session, kind="pretrain", recipe=RECIPE, dataset_id=dataset_id).id)
    expect(page.locator("tbody tr")).to_have_count(before + 1)
    row = page.locator("tbody tr").first
    expect(row.locator(".pill")).to_have_text("running")
    row.get_by_role("link").focus()
    with gallery.database.transaction() as session:
        held = jobs.hold(session, job.id, 1)
        held.progress = {"step": 3, "steps": 12, "eta_seconds": 90}
    expect(row).to_contain_text("25%")
    expect(row).to_contain_text("1 min 30 s left")
    expect(row.get_by_role("link")).to_be_focused()
    with gallery.database.transaction() as session:
        jobs.fail(session, jobs.hold(session, job.id, 1), "stopped", "by the test")
    expect(row.locator(".pill")).to_have_text("failed")
    expect(page.locator("tbody tr")).to_have_count(before + 1)


def test_a_job_that_had_nothing_to_do_is_done(gallery: Gallery, open_tab: OpenTab) -> None:
    """An index job that found no image without a vector has made 0 steps, and succeeded."""
    with gallery.database.transaction() as session:
        job = begin(session, jobs.submit(session, kind="index", recipe={}, model_id=gallery.model_id).id)
        job.progress = {"step": 0, "steps": 1, "stage": "embed"}
        jobs.succeed(session, job, {"num_indexed": 0})
    page = open_tab(gallery.url).page
    page.goto("/#/jobs?kind=index&status=succeeded")
    row = page.locator(f"tbody tr[data-job='{job.id}']")
    expect(row.get_by_role("cell").nth(2)).to_have_text("100%")


def test_the_list_is_one_stream_while_it_is_seen(gallery: Gallery, open_tab: OpenTab) -> None:
    """Nothing is asked for again and again; filters take the connection's place, and hiding the page closes it."""
    page = open_tab(gallery.url).page
    asked: list[Request] = []
    closed: list[Request] = []
    page.on("request", lambda request: asked.append(request) if is_stream(request) else None)
    page.on("requestfailed", lambda request: closed.append(request) if is_stream(request) else None)
    page.goto("/#/jobs")
    wait(page, lambda: len(asked) == 1)
    for number, kind in enumerate(("pretrain", "index", "all"), start=2):
        page.get_by_label("Kind").select_option(kind)
        wait(page, lambda number=number: len(asked) == number)
    wait(page, lambda: len(asked) - len(closed) == 1)
    page.evaluate(HIDE, True)
    wait(page, lambda: len(asked) == len(closed))
    before = len(asked)
    page.evaluate(HIDE, False)
    wait(page, lambda: len(asked) == before + 1)
    assert len(asked) - len(closed) == 1
