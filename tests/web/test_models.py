"""Models in the browser."""

from playwright.sync_api import expect

from tests.web.conftest import Gallery, OpenTab, api_json


def production(gallery: Gallery) -> str:
    [alias] = api_json(gallery.url, "/v1/aliases")["items"]
    found: str = alias["model_id"]
    return found


def test_a_model_is_promoted_and_rolled_back(gallery: Gallery, open_tab: OpenTab) -> None:
    """The other model serves, its index job is named, the history grows, and one press goes back."""
    page = open_tab(gallery.url).page
    page.goto("/#/models")
    page.get_by_role("button", name=f"Promote {gallery.other_model_id} to production").click()
    expect(page.get_by_text("Stored images are found by it once they are indexed")).to_be_visible()
    assert production(gallery) == gallery.other_model_id
    page.get_by_role("button", name="Roll back").click()
    page.get_by_role("dialog").get_by_role("button", name="Keep it").click()
    assert production(gallery) == gallery.other_model_id
    page.get_by_role("button", name="Roll back").click()
    page.get_by_role("dialog").get_by_role("button", name="Roll back").click()
    expect(
        page.locator(f"section[aria-label='Alias production'] td code[title={gallery.model_id}]").first
    ).to_be_visible()
    expect(page.get_by_role("button", name=f"Promote {gallery.other_model_id} to production")).to_be_visible()
    assert production(gallery) == gallery.model_id


def test_a_model_says_how_well_it_agrees(gallery: Gallery, open_tab: OpenTab) -> None:
    """Variants with their figures, layers with sizes, files to download; a model that serves can't be deleted."""
    tab = open_tab(gallery.url)
    tab.expected = ["409"]
    page = tab.page
    page.goto(f"/#/models/{gallery.model_id}")
    model = api_json(gallery.url, f"/v1/models/{gallery.model_id}")
    cosine = model["variants"]["float32"]["cosine"]["h"]["min"]
    expect(page.get_by_role("row").filter(has_text="float32").first).to_contain_text(f"{cosine:.5f}")
    expect(page.get_by_role("row").filter(has_text="model.onnx")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("link", name="model.onnx").click()
    assert download.value.path().stat().st_size == model["files"]["model.onnx"]["num_bytes"]
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete the model").click()
    expect(page.get_by_role("alert")).to_contain_text("in_use")
