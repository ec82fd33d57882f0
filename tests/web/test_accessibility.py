"""Every view by axe's rules, in light and dark, and on a phone; with pictures of each to look at."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from models.config import pretrain_recipe
from service.core import jobs
from tests.service.conftest import add_dataset, begin
from tests.waiting import wait_until
from tests.web.conftest import DESKTOP, PHONE, SCREENSHOTS, Gallery, OpenTab

RECIPE = pretrain_recipe({"preset": "cpu-small"}).model_dump(mode="json")
VIEWS = {  # path, and a selector that is there once the view is
    "search": ("#/search?collection=shades", ".card"),
    "results": ("#/search?collection=shades&image={image}&like={other}&unlike={third}", ".score"),
    "jobs": ("#/jobs", "tbody tr"),
    "job": ("#/jobs/{job}", "figure svg"),
    "new-job": ("#/jobs/new?kind=pretrain", "form .fields"),
    "datasets": ("#/datasets", "tbody tr"),
    "dataset": ("#/datasets/{dataset}", ".facts"),
    "models": ("#/models", "tbody tr"),
    "model": ("#/models/{model}", ".facts"),
    "collections": ("#/collections", "tbody tr"),
    "collection": ("#/collections/shades", ".card"),
    "map": ("#/collections/shades?view=map", ".legend button"),
    "duplicates": ("#/collections/shades?view=duplicates&threshold=0.9", ".duplicate-groups"),
    "quality": ("#/collections/shades?view=quality", ".facts"),
}


@pytest.fixture(scope="module")
def places(gallery: Gallery) -> dict[str, str]:
    """Something to see in each view."""
    with gallery.database.transaction() as session:
        dataset = add_dataset(session, name="pets", num_duplicates=3)
        running = begin(session, jobs.submit(session, kind="pretrain", recipe=RECIPE, dataset_id=dataset.id).id)
        for step in range(1, 60):
            figures = {"step": step, "steps": 100, "epoch": step / 10, "epochs": 10, "loss": 2 + 30 / (step + 9)}
            more = {"images_per_second": 1100 + step % 7, "eta_seconds": 100 - step, "learning_rate": 0.3}
            jobs.record_events(session, running, [("metrics", figures | more)])
        running.progress = figures | more
        made = {"job": running.id, "dataset": dataset.id}
    ids = gallery.ids
    examples = {"image": ids["red-0.png"], "other": ids["red-1.png"], "third": ids["blue-0.png"]}
    return {**made, **examples, "model": gallery.model_id}


def settle(page: Page, selector: str) -> None:
    expect(page.locator(selector).first).to_be_visible()
    wait_until(lambda: page.evaluate("[...document.images].slice(0, 12).every((image) => image.complete)"))


def test_every_view_is_accessible(gallery: Gallery, open_tab: OpenTab, places: dict[str, str]) -> None:
    """No violation of axe's rules; no contrast too low in the dark either; nothing wider than a phone."""
    page = open_tab(gallery.url, reduced_motion="reduce").page
    SCREENSHOTS.mkdir(exist_ok=True)
    page.goto("/")
    axe = Axe()
    found = []
    for name, (path, selector) in VIEWS.items():
        page.goto("/" + path.format(**places))
        settle(page, selector)
        violations = axe.run(page).response["violations"]
        page.screenshot(path=SCREENSHOTS / f"{name}-light.png")
        page.emulate_media(color_scheme="dark")
        violations += axe.run(page, options={"runOnly": ["color-contrast"]}).response["violations"]
        page.screenshot(path=SCREENSHOTS / f"{name}-dark.png")
        page.emulate_media(color_scheme="light")
        page.set_viewport_size(PHONE)
        width = page.evaluate("document.documentElement.scrollWidth")
        page.screenshot(path=SCREENSHOTS / f"{name}-phone.png")
        page.set_viewport_size(DESKTOP)
        found += [(name, v["id"], node["html"][:200]) for v in violations for node in v["nodes"]]
        found += [(name, "wider than a phone", width)] if width > PHONE["width"] else []
    assert found == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_operations_and_the_dialog_are_accessible(gallery: Gallery, open_tab: OpenTab, scheme: str) -> None:
    """The page of the API, and the dialog that takes a key."""
    page = open_tab(gallery.url, color_scheme=scheme, reduced_motion="reduce").page
    page.goto("/docs")
    page.locator(".operation summary").nth(3).click()
    violations = Axe().run(page).response["violations"]
    page.screenshot(path=SCREENSHOTS / f"docs-{scheme}.png")
    page.goto("/#/models")
    page.get_by_role("button", name="Key", exact=True).click()
    expect(page.get_by_role("dialog")).to_be_visible()
    violations += Axe().run(page).response["violations"]
    page.screenshot(path=SCREENSHOTS / f"key-{scheme}.png")
    assert [(v["id"], node["html"][:200]) for v in violations for node in v["nodes"]] == []
