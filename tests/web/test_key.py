"""An API key in the browser, at a service that asks for one."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from playwright.sync_api import expect

from tests.service.api_keys import issue
from tests.service.conftest import serving
from tests.web.conftest import Gallery, OpenTab


@dataclass(frozen=True)
class Guarded:
    """The gallery's service as it is with keys, and one of them."""

    url: str
    key: str


@pytest.fixture(scope="module")
def guarded(gallery: Gallery) -> Iterator[Guarded]:
    key = issue(gallery.database, "default", "read")
    with serving(gallery.settings.model_copy(update={"auth": "on"})) as url:
        yield Guarded(url, key)


@pytest.mark.parametrize("on_device", [False, True])
def test_a_key_is_asked_for_once_and_sent(guarded: Guarded, open_tab: OpenTab, *, on_device: bool) -> None:
    """A wrong key is asked for again; the right one brings everything, pictures too, and is kept as long as asked."""
    tab = open_tab(guarded.url)
    tab.expected = ["401"]
    page = tab.page
    page.goto("/#/search?collection=shades")
    dialog = page.get_by_role("dialog", name="API key")
    expect(dialog).to_be_visible()
    expect(page.get_by_role("dialog")).to_have_count(1)
    dialog.get_by_label("Key", exact=True).fill("sk_wrong")
    dialog.get_by_role("button", name="Use this key").click()
    expect(dialog.get_by_text("does not take this key")).to_be_visible()
    dialog.get_by_label("Key", exact=True).fill(guarded.key)
    dialog.get_by_label("Remember on this device").set_checked(on_device)
    dialog.get_by_role("button", name="Use this key").click()
    expect(page.locator(".card")).to_have_count(24)
    expect(page.locator(".card img").first).to_have_js_property("naturalWidth", 8)
    assert page.locator(".card img").first.get_attribute("src").startswith("blob:")  # type: ignore[union-attr]
    kept = page.evaluate("[sessionStorage.length, localStorage.length]")
    assert kept == ([0, 1] if on_device else [1, 0])
    assert page.context.cookies() == []


def test_a_key_is_forgotten(guarded: Guarded, open_tab: OpenTab) -> None:
    """After that the next request asks again, and a refusal to give one is told as the service tells it."""
    tab = open_tab(guarded.url)
    tab.expected = ["401"]
    page = tab.page
    page.add_init_script(f"if (!sessionStorage.length) sessionStorage.setItem('simclr-key', '{guarded.key}')")
    page.goto("/#/models")
    expect(page.get_by_role("heading", name="History of “production”")).to_be_visible()
    page.get_by_role("button", name="Key set").click()
    page.get_by_role("button", name="Forget the key").click()
    expect(page.get_by_text("The service asks for an API key.")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("alert")).to_contain_text("unauthenticated")
    expect(page.get_by_role("button", name="Key", exact=True)).to_be_visible()
    assert page.evaluate("[sessionStorage.length, localStorage.length]") == [0, 0]


def test_the_dialog_keeps_the_focus(gallery: Gallery, open_tab: OpenTab) -> None:
    """Tab goes round in the dialog; Escape closes it and the button has the focus again."""
    page = open_tab(gallery.url).page
    page.goto("/#/models")
    page.get_by_role("button", name="Key", exact=True).click()
    for _ in range(8):
        page.keyboard.press("Tab")
        inside = "document.activeElement === document.body || document.activeElement.closest('dialog') !== null"
        assert page.evaluate(inside)
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Key", exact=True)).to_be_focused()
