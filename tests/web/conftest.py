"""A browser, and services for it: the whole stack, or the API alone with a gallery whose geometry is known."""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from service.client import Client
from service.core.db import Database
from service.core.schema import migrate
from service.core.settings import Settings
from service.core.storage import LocalStorage
from service.core.tables import DEFAULT_TENANT
from tests.models.image_files import encode
from tests.service.conftest import serving
from tests.small_models import publish
from tests.web.shades import shades

SCREENSHOTS = Path(__file__).parent / "screenshots"
HOSTILE = "<img src=x onerror=alert(1)>.png"
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 375, "height": 740}

expect.set_options(timeout=10_000)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Chromium; it is stopped with the package: its event loop would be in the way of other tests."""
    path = shutil.which("chromium")
    if path is None and not os.environ.get("CI"):
        pytest.skip("chromium is not here")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@dataclass
class Tab:
    """A page with what went wrong in it: errors of scripts, of the console, and of the content security policy."""

    page: Page
    failures: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)  # patterns of failures that a test provokes

    def note(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.failures.append(f"{message.text} at {message.location.get('url', '')}")

    def unexpected(self) -> list[str]:
        return [failure for failure in self.failures if not any(re.search(p, failure) for p in self.expected)]


OpenTab = Callable[..., Tab]


@pytest.fixture
def open_tab(browser: Browser) -> Iterator[OpenTab]:
    """Opens tabs, each in a browser of its own; afterwards none may have failed."""
    contexts: list[BrowserContext] = []
    tabs: list[Tab] = []

    def open_(base_url: str, **options: Any) -> Tab:
        context = browser.new_context(base_url=base_url, **{"viewport": DESKTOP, **options})
        tab = Tab(context.new_page())
        tab.page.on("console", tab.note)
        tab.page.on("pageerror", lambda error: tab.failures.append(f"{error}"))
        tab.page.on("dialog", lambda dialog: (tab.failures.append("an alert"), dialog.dismiss()))
        contexts.append(context)
        tabs.append(tab)
        return tab

    yield open_
    for context in contexts:
        context.close()
    assert [failure for tab in tabs for failure in tab.unexpected()] == []


@dataclass(frozen=True)
class Gallery:
    """An API with a model whose h is the image itself, without a worker; and another model, that doesn't serve."""

    url: str
    settings: Settings
    database: Database
    storage: LocalStorage
    images: dict[str, bytes]  # name -> content
    ids: dict[str, str]
    model_id: str
    other_model_id: str


@pytest.fixture(scope="package")
def make_api(
    server_folder: Path, redis_url: str, create_database: Callable[[], str]
) -> Iterator[Callable[[], tuple[Settings, Database, LocalStorage]]]:
    """Makes settings with an empty, migrated database and storage of their own."""
    databases = []

    def make() -> tuple[Settings, Database, LocalStorage]:
        url = create_database()
        migrate(url)
        folder = server_folder / f"web-{len(databases)}"
        settings = Settings(data_dir=folder, database_url=url, redis_url=redis_url, auth="off")
        databases.append(Database(url).of(DEFAULT_TENANT))
        return settings, databases[-1], LocalStorage(settings.storage_dir)

    yield make
    for database in databases:
        database.close()


@pytest.fixture(scope="package")
def empty_url(make_api: Callable[[], tuple[Settings, Database, LocalStorage]]) -> Iterator[str]:
    """An API that has nothing; tests leave it so."""
    settings, _, _ = make_api()
    with serving(settings) as url:
        yield url


@pytest.fixture(scope="package")
def gallery(make_api: Callable[[], tuple[Settings, Database, LocalStorage]]) -> Iterator[Gallery]:
    """Three labels of drawn shades in the collection `shades`, one image twice over but for a pixel."""
    settings, database, storage = make_api()
    model_id = publish(database, storage).id
    other_model_id = publish(database, storage, alias=None).id
    images = {name: encode(pixels, "png") for name, pixels in shades().items()}
    with serving(settings) as url:
        with Client(url) as client:
            files = list(images.items())
            labels = [name.split("-")[0] for name in images]
            stored = client.add_images(files, collection="shades", labels=labels)
        ids = {name: item["id"] for name, item in zip(images, stored, strict=True)}
        yield Gallery(url, settings, database, storage, images, ids, model_id, other_model_id)


def drop(page: Page, selector: str, files: list[tuple[str, bytes]]) -> None:
    """Drop files, as from a folder."""
    transfer = page.evaluate_handle(
        """(files) => {
            const transfer = new DataTransfer();
            for (const [name, bytes] of files) {
                transfer.items.add(new File([new Uint8Array(bytes)], name, {type: "image/png"}));
            }
            return transfer;
        }""",
        [[name, list(content)] for name, content in files],
    )
    page.dispatch_event(selector, "drop", {"dataTransfer": transfer})


def cut_choices(page: Page) -> list[str]:
    """The names of the choices that are narrower than what they may show."""
    found: list[str] = page.evaluate(
        """() => [...document.querySelectorAll("select")].filter((select) => {
            const copy = select.cloneNode(true);
            copy.style.cssText = "position: absolute; width: auto; max-width: none";
            select.after(copy);
            const isCut = copy.offsetWidth > select.offsetWidth;
            copy.remove();
            return isCut;
        }).map((select) => select.labels[0].textContent)"""
    )
    return found


def api_json(url: str, path: str, **query: Any) -> Any:
    return httpx.get(f"{url}{path}", params=query).raise_for_status().json()
