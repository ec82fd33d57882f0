"""What those see who have nothing yet."""

import pytest
from playwright.sync_api import expect

from tests.web.conftest import PHONE, OpenTab, cut_choices


def test_a_new_service_says_what_to_do(empty_url: str, open_tab: OpenTab) -> None:
    """Without a model in production the search leads to a data set, a job and the models."""
    page = open_tab(empty_url).page
    page.goto("/")
    expect(page.get_by_role("heading", name="No model serves yet")).to_be_visible()
    page.get_by_role("link", name="pretrain on it").click()
    expect(page).to_have_url(f"{empty_url}/#/jobs/new?kind=pretrain")
    expect(page.get_by_text("There is no data set yet that is ready")).to_be_visible()
    page.go_back()
    expect(page.get_by_role("heading", name="No model serves yet")).to_be_visible()


@pytest.mark.parametrize(
    ("view", "heading"),
    [
        ("jobs", "No jobs"),
        ("datasets", "No data sets"),
        ("models", "No models"),
        ("collections", "No collections"),
    ],
)
def test_an_empty_list_is_no_blank(empty_url: str, open_tab: OpenTab, view: str, heading: str) -> None:
    """Each says that there is nothing, and how that changes."""
    page = open_tab(empty_url).page
    page.goto(f"/#/{view}")
    expect(page.get_by_role("heading", name=heading, exact=True)).to_be_visible()


def test_what_is_not_there_is_told(empty_url: str, open_tab: OpenTab) -> None:
    """A view that the page hasn't, a job that the service hasn't, an id that can't be one: in words, not patterns."""
    tab = open_tab(empty_url)
    tab.expected = ["404", "422"]
    tab.page.goto("/#/nowhere")
    expect(tab.page.get_by_role("alert")).to_have_text("There is no view “nowhere” on this page.")
    things = {"jobs": "job", "datasets": "data set", "models": "model", "collections": "collection"}
    for section, thing in things.items():
        tab.page.goto(f"/#/{section}/no.-pe+")
        expect(tab.page.get_by_role("alert")).to_have_text(f"There is no {thing} “no.-pe+”.")
    tab.page.goto(f"/#/jobs/job_{'0' * 26}")
    expect(tab.page.get_by_role("alert")).to_contain_text("there is no job")


@pytest.mark.parametrize("view", ["datasets", "jobs"])
def test_choices_can_be_read_on_a_phone(empty_url: str, open_tab: OpenTab, view: str) -> None:
    """What may be chosen isn't cut."""
    page = open_tab(empty_url, viewport=PHONE).page
    page.goto(f"/#/{view}")
    expect(page.locator("select").first).to_be_visible()
    assert cut_choices(page) == []


def test_the_operations_are_shown(empty_url: str, open_tab: OpenTab) -> None:
    """/docs has every operation of the document, without anything from another host, and finds them by word.

    What the document has between backticks is code.
    """
    page = open_tab(empty_url).page
    hosts = set()
    page.on("request", lambda request: hosts.add(request.url.split("/")[2]))
    page.goto("/docs")
    paths = page.request.get("/openapi.json").json()["paths"]
    number = sum(len(methods) for methods in paths.values())
    expect(page.locator(".operation")).to_have_count(number)
    expect(page.locator("#operations")).not_to_contain_text("`")
    page.get_by_label("Find an operation").fill("cancel job")
    expect(page.locator(".operation:visible summary code").last).to_have_text("/v1/jobs/{job_id}/cancel")
    assert hosts == {empty_url.removeprefix("http://")}


def test_the_keyboard_alone_gets_there(empty_url: str, open_tab: OpenTab) -> None:
    """The skip link comes first and leads to the content; a link of the navigation moves the focus to its heading."""
    page = open_tab(empty_url).page
    page.goto("/#/jobs")
    expect(page.get_by_role("heading", name="Jobs", exact=True)).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    expect(page).to_have_url(f"{empty_url}/#/jobs")
    page.get_by_role("link", name="Models").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Models", exact=True)).to_be_focused()
    expect(page).to_have_title("Models · simclr-service")
