"""The way of a new user through the page, on a running `simclr up`: from an archive to a search."""

import io
import re
import zipfile

from playwright.sync_api import Page, expect

from tests.models.image_files import encode
from tests.stack import Stack
from tests.web.conftest import HOSTILE, OpenTab, drop
from tests.web.shades import shades

JOB = re.compile("#/jobs/job_")


def archive() -> bytes:
    """Three families of shades as folders, and a file that is no image and whose name is markup."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as written:
        for name, pixels in shades().items():
            written.writestr(f"{name.split('-')[0]}/{name}", encode(pixels, "png"))
        written.writestr(f"red/{HOSTILE}", b"no image")
    return file.getvalue()


def start_pretraining(page: Page, epochs: int) -> None:
    """Fill the form and press Start."""
    page.get_by_role("link", name="Pretrain on it").click()
    for label, value in (("Batch size", "8"), ("Epochs", str(epochs)), ("Warmup epochs", "0")):
        page.get_by_label(label, exact=True).fill(value)
    page.locator("summary", has_text="Preprocessing").click()
    page.get_by_label("Image size").fill("8")
    page.get_by_role("button", name="Start").click()
    expect(page).to_have_url(JOB)


def test_from_an_archive_to_a_search(stack: Stack, open_tab: OpenTab) -> None:
    """Upload, pretrain while it is watched live, promote, add images, search; a second job is cancelled as it runs."""
    tab = open_tab(stack.base_url)
    page = tab.page
    page.goto("/#/datasets")
    page.get_by_label("Files that are no readable image").select_option("are left out and listed")
    drop(page, ".drop", [("shades.zip", archive())])
    expect(page.get_by_role("heading", name="shades.zip")).to_be_visible()
    expect(page.locator(".state .pill")).to_have_text("ready", timeout=20_000)
    expect(page.get_by_role("heading", name="3 classes: train 25")).to_be_visible()
    expect(page.get_by_role("row").filter(has_text="unsupported_format")).to_contain_text(HOSTILE)
    dataset_url = page.url

    start_pretraining(page, 100_000)
    bar = page.get_by_role("progressbar")
    expect(bar).to_be_visible(timeout=30_000)
    expect(page.locator(".progress-now")).to_contain_text(re.compile(r"step [\d,]+ of [\d,]+ · \d+ images/s · .* left"))
    expect(page.locator(".progress-now p")).not_to_have_text(page.locator(".progress-now p").inner_text())
    expect(page.locator("figure", has_text="the training loss").get_by_role("img")).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".state .pill")).to_have_text("cancelled", timeout=20_000)
    expect(page.get_by_role("button", name="Resume")).to_be_visible()

    page.goto(dataset_url)
    start_pretraining(page, 2)
    expect(page.locator(".state .pill")).to_have_text("succeeded", timeout=60_000)
    page.get_by_role("region", name="Result").locator("a[href*='#/models/']").click()
    expect(page.get_by_role("heading", name="Model", exact=True)).to_be_visible()
    promote = page.get_by_role("button", name=re.compile("Promote .* to production"))
    promote.click()
    expect(page.locator(".pill.alias")).to_have_text("production")
    expect(promote).to_be_hidden()

    page.goto("/#/collections")
    page.get_by_label("New collection").fill("page")
    page.get_by_role("button", name="Make it").click()
    files = [(name, encode(pixels, "png")) for name, pixels in shades().items()]
    drop(page, ".drop", files)
    expect(page.locator(".progress-now")).to_contain_text("25 of 25 files: 25 created")
    page.get_by_role("link", name="Search in it").click()
    expect(page.locator(".card")).to_have_count(24)
    drop(page, ".drop", [files[0]])
    expect(page.locator(".score").first).to_have_text("1.000")
    expect(page.locator(".card img").first).to_have_js_property("naturalWidth", 8)
