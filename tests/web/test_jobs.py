"""Jobs in the browser, without a worker: the form, what a failure says, the list."""

import json
import re
import time
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, Request, Route, expect

from models.config import pretrain_recipe
from service.core import jobs
from tests.service.conftest import add_dataset, begin
from tests.web.conftest import Gallery, OpenTab, api_json

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


def test_every_kind_has_its_form(gallery: Gallery, open_tab: OpenTab, dataset_id: str) -> None:
    """The kinds of the service, with the model and data set that each needs; an ablation's grid is written as JSON."""
    page = open_tab(gallery.url).page
    page.goto("/#/jobs/new")
    kinds = api_json(gallery.url, "/v1/recipes")["schemas"]
    expect(page.get_by_label("Kind").locator("option")).to_have_text([kind.replace("_", " ") for kind in kinds])
    for kind in kinds:
        page.get_by_label("Kind").select_option(kind.replace("_", " "))
        expect(page.get_by_label("Data set")).to_have_count(int(kind != "index"))
        expect(page.get_by_label("Model")).to_have_count(int(kind not in {"pretrain", "ablation"}))
    page.get_by_label("Kind").select_option("ablation")
    page.locator("summary", has_text="Base").click()
    page.locator("[data-path='base.batch_size'] input").fill("32")
    page.get_by_label("Grid").fill('{"loss.temperature": [0.1, 0.5]}')
    page.get_by_role("button", name="Start").click()
    expect(page).to_have_url(re.compile("#/jobs/job_"))
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".state .pill")).to_have_text("cancelled")


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
    page.goto("/#/jobs?kind=knn_probe")
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
