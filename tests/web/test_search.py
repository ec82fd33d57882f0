"""Search in the browser: by a file of one's own, by stored images, with examples and filters."""

import re

from playwright.sync_api import Locator, Page, expect

from service.client import Client
from tests.models.image_files import encode, noise
from tests.web.conftest import DESKTOP, PHONE, Gallery, OpenTab, drop
from tests.web.shades import shades


def cards(page: Page) -> Locator:
    return page.locator(".grid > .card:visible")


def labels(page: Page) -> list[str]:
    return page.locator(".grid > .card:visible .name").all_inner_texts()


def test_a_dropped_image_finds_its_family(gallery: Gallery, open_tab: OpenTab) -> None:
    """The best results are of its label, its own copy with score 1; the image itself is shown as the query."""
    page = open_tab(gallery.url).page
    page.goto("/")
    expect(page).to_have_title("Search · simclr-service")
    drop(page, ".drop", [("red-3.png", gallery.images["red-3.png"])])
    expect(page.locator(".score").first).to_have_text("1.000")
    assert set(labels(page)[:7]) == {"red"}
    expect(page.locator(".examples img")).to_have_js_property("naturalWidth", 8)
    expect(page.locator(".card img").first).to_have_js_property("naturalWidth", 8)
    expect(page.get_by_role("status").first).to_contain_text("best score 1.000")


def test_near_duplicates_are_one_card(gallery: Gallery, open_tab: OpenTab) -> None:
    """The copy is folded under its original, and unfolds; with `never` both are cards of their own."""
    page = open_tab(gallery.url).page
    page.goto(f"/#/search?image={gallery.ids['red-1.png']}&collection=shades&fold=0.99&k=96")
    fold = page.get_by_role("button", name=re.compile("1: near-duplicates of red"))
    expect(fold).to_have_text("+1")
    expect(cards(page)).to_have_count(23)  # 25 without the query and the copy
    fold.press("Enter")
    expect(cards(page)).to_have_count(24)
    page.get_by_label("Fold near-duplicates").select_option("never")
    expect(cards(page)).to_have_count(24)
    expect(fold).to_have_count(0)


def test_names_can_be_read(gallery: Gallery, open_tab: OpenTab) -> None:
    """Beside a score and two buttons a camera's name isn't cut, on a phone either; a long one has the card's width."""
    page = open_tab(gallery.url).page
    with Client(gallery.url) as client:
        names = ["DSC_0042-beach.png", f"{'long ' * 20}.png"]
        files = [(name, encode(noise(8, 8, seed=i), "png")) for i, name in enumerate(names, 200)]
        client.add_images(files, collection="named")
        page.goto(f"/#/search?collection=named&like={gallery.ids['red-1.png']}")
        for size in (DESKTOP, PHONE):
            page.set_viewport_size(size)
            expect(page.locator(".card .score")).to_have_count(2)
            camera, long = (page.locator(".card .name", has_text=name[:8]) for name in names)
            assert camera.evaluate("(name) => name.scrollWidth <= name.clientWidth")
            assert long.evaluate("(name) => name.clientWidth / name.closest('.card').clientWidth") > 0.8
        client.delete_collection("named")


def test_examples_steer_the_search(gallery: Gallery, open_tab: OpenTab) -> None:
    """`More like this` brings its family up; the address has the examples, and Back takes them away."""
    page = open_tab(gallery.url).page
    page.goto(f"/#/search?image={gallery.ids['red-1.png']}&collection=shades&k=24&fold=1")
    expect(cards(page)).to_have_count(24)
    assert "green" not in labels(page)[:8]
    page.locator(".card:visible", has_text="green").get_by_role("button", name="More like this").first.click()
    expect(page.locator(".example-group", has_text="More like")).to_be_visible()
    expect(cards(page)).to_have_count(23)
    assert "green" in labels(page)[:8]
    page.locator(".card:visible", has_text="red").get_by_role("button", name="Not like this").first.click()
    expect(page.locator(".example-group", has_text="Not like")).to_be_visible()
    expect(cards(page)).to_have_count(22)
    assert len(re.findall("(?<!un)like=", page.url)) == len(re.findall("unlike=", page.url)) == 1
    page.go_back()
    expect(page.locator(".example-group", has_text="Not like")).to_have_count(0)
    expect(cards(page)).to_have_count(23)


def test_an_image_that_is_not_stored_takes_examples_too(gallery: Gallery, open_tab: OpenTab) -> None:
    """Its sum with examples is the one that the service makes of stored ones: the same results, in the same order."""
    page = open_tab(gallery.url).page
    page.goto("/#/search?collection=shades&fold=1&k=12")
    drop(page, ".drop", [("red-3.png", gallery.images["red-3.png"])])
    expect(page.locator(".score").first).to_have_text("1.000")
    page.locator(".card:visible", has_text="red").get_by_role("button", name="Not like this").nth(2).click()
    expect(page.locator(".example-group", has_text="Not like").locator("li")).to_have_count(1)
    expect(page.locator("section[aria-busy=false]")).to_be_visible()
    unlike = re.search("unlike=([0-9a-f]{64})", page.url)
    assert unlike is not None
    by_vector = page.locator(".grid > .card a").evaluate_all("links => links.map((a) => a.hash)")
    body = {"positive": [gallery.ids["red-3.png"]], "negative": [unlike[1]], "collection": "shades", "k": 11}
    answer = page.request.post("/v1/search", data=body).json()
    by_service = [item["id"] for item in answer["items"]]
    found = [re.search("image=([0-9a-f]{64})", link)[1] for link in by_vector]  # type: ignore[index]
    found.remove(gallery.ids["red-3.png"])  # a file is not known to be stored
    assert found == by_service


def test_filters_are_in_the_address(gallery: Gallery, open_tab: OpenTab) -> None:
    """A label and a least score leave images out, at once and when the link is opened again."""
    page = open_tab(gallery.url).page
    page.goto(f"/#/search?image={gallery.ids['red-1.png']}&collection=shades&k=96&fold=1")
    expect(cards(page)).to_have_count(24)
    page.get_by_label("Label").fill("blue")
    page.get_by_label("Label").press("Enter")
    expect(cards(page)).to_have_count(8)
    assert set(labels(page)) == {"blue"}
    assert page.locator("datalist option").evaluate_all("o => o.map((one) => one.value)") == ["blue", "green", "red"]
    page.reload()
    expect(cards(page)).to_have_count(8)
    page.get_by_label("Least score").fill("0.999")
    page.get_by_label("Least score").press("Enter")
    expect(page.get_by_role("heading", name="Nothing is that similar")).to_be_visible()


def test_what_is_no_image_is_told(gallery: Gallery, open_tab: OpenTab) -> None:
    """The service's own words and code, once, and no picture that is broken; the page goes on."""
    tab = open_tab(gallery.url)
    tab.expected = ["422"]
    tab.page.goto("/#/search?collection=shades")
    expect(cards(tab.page)).to_have_count(24)
    drop(tab.page, ".drop", [("broken.png", b"no image")])
    alert = tab.page.get_by_role("alert")
    expect(alert.locator("code")).to_have_text("unsupported_format")
    expect(alert.locator("li")).to_have_count(0)
    expect(tab.page.locator(".examples .no-picture")).to_have_text("No picture")
    expect(tab.page.locator(".examples img")).to_have_count(0)
    drop(tab.page, ".drop", [("red.png", encode(shades()["red-5.png"], "png"))])
    expect(tab.page.locator(".score").first).to_have_text("1.000")


def test_an_image_is_pasted(gallery: Gallery, open_tab: OpenTab) -> None:
    """A paste anywhere on the view searches."""
    page = open_tab(gallery.url).page
    page.goto("/#/search?collection=shades")
    expect(cards(page)).to_have_count(24)
    page.evaluate(
        """(bytes) => {
            const clipboardData = new DataTransfer();
            clipboardData.items.add(new File([new Uint8Array(bytes)], "pasted.png", {type: "image/png"}));
            document.dispatchEvent(new ClipboardEvent("paste", {clipboardData}));
        }""",
        list(gallery.images["blue-2.png"]),
    )
    expect(page.locator(".score").first).to_have_text("1.000")
    assert labels(page)[0] == "blue"
