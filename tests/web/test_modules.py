"""Single modules of the page, run in the browser and held against other implementations."""

import numpy as np
import pytest
from matplotlib.path import Path as Polygon
from playwright.sync_api import Page

from tests.web.conftest import OpenTab


@pytest.fixture
def page(empty_url: str, open_tab: OpenTab) -> Page:
    page = open_tab(empty_url).page
    page.goto("/docs")
    return page


def test_a_lasso_holds_what_matplotlib_says(page: Page) -> None:
    """A star that crosses itself is even-odd; other polygons are as matplotlib has them."""
    rng = np.random.default_rng(0)
    angles = np.sort(rng.uniform(0, 2 * np.pi, 25))
    radii = rng.uniform(0.1, 0.5, 25)
    polygon = np.stack([0.5 + radii * np.cos(angles), 0.5 + radii * np.sin(angles)], 1)
    points = rng.uniform(size=(2000, 2))
    inside = page.evaluate(
        """async ([points, polygon]) => {
            const { isInside } = await import("/web/map/lasso.js");
            return points.map(([x, y]) => isInside(x, y, polygon));
        }""",
        [points.tolist(), polygon.tolist()],
    )
    expected = Polygon(np.concatenate([polygon, polygon[:1]])).contains_points(points)
    assert 200 < expected.sum() < 1800
    np.testing.assert_array_equal(inside, expected)
    pentagram = [[np.cos(a), np.sin(a)] for a in 4 * np.pi / 5 * np.arange(5)]
    middle = "async (p) => (await import('/web/map/lasso.js')).isInside(0, 0, p)"
    assert page.evaluate(middle, pentagram) is False


def test_the_nearest_point_is_that_of_a_look_at_all(page: Page) -> None:
    """Cells leave no point out, at the edges either; beyond the radius there is none."""
    rng = np.random.default_rng(1)
    points = rng.uniform(size=(500, 2)).astype(np.float32)
    places = rng.uniform(-0.05, 1.05, size=(300, 2))
    radius = 0.03
    found = page.evaluate(
        """async ([points, places, radius]) => {
            const { GridIndex } = await import("/web/map/grid-index.js");
            const [xs, ys] = [0, 1].map((axis) => Float32Array.from(points, (point) => point[axis]));
            const index = new GridIndex(xs, ys);
            return places.map(([x, y]) => index.nearest(x, y, radius, (i) => i !== 7));
        }""",
        [points.tolist(), places.tolist(), radius],
    )
    distances = np.linalg.norm(places[:, None] - points[None], axis=2)
    distances[:, 7] = np.inf
    expected = np.where(distances.min(1) <= radius, distances.argmin(1), -1)
    assert (expected == -1).any()
    assert (expected != -1).any()
    np.testing.assert_array_equal(found, expected)


def test_an_event_stream_may_be_cut_anywhere(page: Page) -> None:
    """However the bytes arrive, in the middle of a letter too, the messages are the same; comments are none."""
    first = 'retry: 1000\n\nid: 1\nevent: status\ndata: {"a": "ä"}\n\n: keep-alive\n\n'
    text = first + "id: 2\r\ndata: 2\r\n\r\ndata: x\ndata: y\n\n"
    for size in (1, 2, 3, 7, 1000):
        found = page.evaluate(
            """async ([bytes, size]) => {
                const { messages } = await import("/web/events.js");
                const body = new ReadableStream({
                    start(controller) {
                        for (let i = 0; i < bytes.length; i += size) {
                            controller.enqueue(Uint8Array.from(bytes.slice(i, i + size)));
                        }
                        controller.close();
                    },
                });
                const found = [];
                for await (const message of messages(body)) found.push(message);
                return found;
            }""",
            [list(text.encode()), size],
        )
        assert found == ['{"a": "ä"}', "2", "x\ny"]


def test_files_are_sent_a_few_at_a_time(page: Page) -> None:
    """At most 16 files and 32 MB a request, in order; a file that is larger goes alone."""
    sizes = [1] * 20 + [30_000_000, 3_000_000, 40_000_000, 1]
    found = page.evaluate(
        """async (sizes) => {
            const { chunks } = await import("/web/image-upload.js");
            return [...chunks(sizes.map((size) => ({size})))].map((chunk) => chunk.map(({size}) => size));
        }""",
        sizes,
    )
    assert [size for chunk in found for size in chunk] == sizes
    assert [len(chunk) for chunk in found] == [16, 5, 1, 1, 1]
