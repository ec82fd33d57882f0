"""A collection in the browser: adding images, the map, duplicates, quality."""

from playwright.sync_api import Page, expect

from tests.models.image_files import encode, noise
from tests.waiting import wait_until
from tests.web.conftest import HOSTILE, Gallery, OpenTab, api_json, drop

INSET = 16  # pixels: the corners are round, and no point is so near to the edge
MAP = "/#/collections/shades?view=map"


def test_images_are_added_each_with_its_result(gallery: Gallery, open_tab: OpenTab) -> None:
    """Good files are stored with their label, a broken one says why, and a name that is markup is only text."""
    page = open_tab(gallery.url).page
    page.goto("/#/collections")
    page.get_by_label("New collection").fill("added")
    page.get_by_role("button", name="Make it").click()
    expect(page.get_by_role("heading", name="added")).to_be_visible()
    page.get_by_label("Label of these images").fill("<b>new</b>")
    files = [(f"{i}.png", encode(noise(8, 8, seed=i), "png")) for i in range(17)]
    drop(page, ".drop", [*files, (HOSTILE, encode(noise(8, 8, seed=99), "png")), ("broken.png", b"no image")])
    rows = page.locator(".panel tbody tr")
    expect(rows).to_have_count(19)
    expect(rows.nth(17)).to_contain_text(HOSTILE)
    expect(rows.nth(18)).to_contain_text("failed")
    expect(page.locator(".progress-now")).to_contain_text("19 of 19 files: 18 created, 1 failed")
    expect(page.locator(".grid .card")).to_have_count(18)
    expect(page.locator(".grid .name").first).to_have_text("<b>new</b>")
    assert page.locator("img[src='x']").count() == 0
    assert {item["label"] for item in api_json(gallery.url, "/v1/images", collection="added")["items"]} == {
        "<b>new</b>"
    }
    page.goto("/#/collections")
    page.get_by_role("button", name="Delete added").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete the collection").click()
    expect(page.get_by_role("link", name="added")).to_have_count(0)


def test_a_bad_name_is_marked_at_its_field(gallery: Gallery, open_tab: OpenTab) -> None:
    """The 422's field is marked, described and focused."""
    tab = open_tab(gallery.url)
    tab.expected = ["422"]
    tab.page.goto("/#/collections")
    field = tab.page.get_by_label("New collection")
    field.fill("no/slash")
    field.press("Enter")
    expect(field).to_be_focused()
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_have_accessible_description(
        "Letters, digits, dots, dashes. String should match pattern '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$'"
    )


def test_a_label_filters_the_images(gallery: Gallery, open_tab: OpenTab) -> None:
    """Those of the label are left, and the link says so."""
    page = open_tab(gallery.url).page
    page.goto("/#/collections/shades")
    expect(page.locator(".grid .card")).to_have_count(25)
    page.get_by_label("Label", exact=True).select_option(label="red (9)")
    expect(page.locator(".grid .card")).to_have_count(9)
    page.reload()
    expect(page.locator(".grid .card")).to_have_count(9)


def lasso(page: Page) -> None:
    """Draw around the left half of the map."""
    canvas = page.locator("canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    left, right = box["x"] + INSET, box["x"] + box["width"] / 2
    top, bottom = box["y"] + INSET, box["y"] + box["height"] - INSET
    page.mouse.move(left, top)
    page.mouse.down()
    for x, y in ((right, top), (right, bottom), (left, bottom)):
        page.mouse.move(x, y, steps=4)
    page.mouse.up()


def expected_on_the_left(gallery: Gallery) -> set[str]:
    """Images left of the middle of what the map has, as the service says."""
    items = api_json(gallery.url, "/v1/collections/shades/map")["items"]
    xs = [item["x"] for item in items]
    return {item["id"] for item in items if item["x"] < (min(xs) + max(xs)) / 2}


def test_a_lasso_selects_what_it_holds(gallery: Gallery, open_tab: OpenTab) -> None:
    """The left half by pointer is the left half by numbers; it becomes the examples of a search."""
    page = open_tab(gallery.url).page
    page.goto(MAP)
    page.get_by_role("button", name="Lasso").click()
    lasso(page)
    expected = expected_on_the_left(gallery)
    expect(page.get_by_role("heading", name=f"{len(expected)} images selected")).to_be_visible()
    page.get_by_role("button", name="Show only these").click()
    expect(page.get_by_role("heading", name=f"{len(expected)} images shown")).to_be_visible()
    page.get_by_role("button", name="Show all again").click()
    lasso(page)
    page.get_by_role("button", name="Search with these").click()
    expect(page.locator(".example-group li")).to_have_count(len(expected))
    liked = page.evaluate("new URLSearchParams(location.hash.split('?')[1]).getAll('like')")
    assert set(liked) == expected


def test_the_map_without_a_pointer(gallery: Gallery, open_tab: OpenTab) -> None:
    """A label selects its images; the list adds one of another; the canvas takes keys."""
    page = open_tab(gallery.url).page
    page.goto(MAP)
    label = page.get_by_role("group", name="Select by label").get_by_role("button", name="green")
    label.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="8 images selected")).to_be_visible()
    page.get_by_text("All images as a list").click()
    first = page.locator(".points input").first
    first.focus()
    page.keyboard.press("Space")
    expect(page.get_by_role("heading", name="9 images selected")).to_be_visible()
    expect(first).to_be_focused()
    canvas = page.locator("canvas").first
    drawn = "document.querySelector('canvas').toDataURL()"
    before = page.evaluate(drawn)
    canvas.focus()
    page.keyboard.press("+")
    wait_until(lambda: page.evaluate(drawn) != before)


def test_pointing_shows_the_image(gallery: Gallery, open_tab: OpenTab) -> None:
    """The image nearest to the pointer is previewed, and gone when the pointer is."""
    page = open_tab(gallery.url).page
    page.goto(MAP)
    canvas = page.locator("canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    items = api_json(gallery.url, "/v1/collections/shades/map")["items"]
    xs, ys = ([item[axis] for item in items] for axis in "xy")
    side = max(max(xs) - min(xs), max(ys) - min(ys))
    scale = (min(box["width"], box["height"]) - 48) / side
    green = next(item for item in items if item["label"] == "green")
    left = box["x"] + box["width"] / 2 + (green["x"] - (min(xs) + max(xs)) / 2) * scale
    top = box["y"] + box["height"] / 2 - (green["y"] - (min(ys) + max(ys)) / 2) * scale
    page.mouse.move(left, top)
    expect(page.locator(".map-preview")).to_contain_text("green")
    expect(page.locator(".map-preview img")).to_be_visible()
    page.mouse.move(box["x"] - 5, box["y"] - 5)
    expect(page.locator(".map-preview")).to_be_hidden()


def test_duplicates_and_quality_are_shown(gallery: Gallery, open_tab: OpenTab) -> None:
    """One group of two at a high threshold; precision as the service says."""
    page = open_tab(gallery.url).page
    page.goto("/#/collections/shades?view=duplicates&threshold=0.99")
    expect(page.locator(".duplicate-groups > li")).to_have_count(1)
    expect(page.locator(".duplicate-groups .card")).to_have_count(2)
    page.get_by_role("link", name="Quality").click()
    precision = api_json(gallery.url, "/v1/collections/shades/quality", k=10)["precision_at_k"]
    expect(page.locator(".facts")).to_contain_text(f"{100 * precision:.1f}%")
