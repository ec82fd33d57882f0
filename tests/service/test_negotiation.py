"""Which form of an answer an Accept header asks for."""

import pytest

from service.negotiation import preferred

OFFERED = ("application/json", "text/html", "image/png")
CHROME_PAGE = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8"
CHROME_IMAGE = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("text/event-stream", "application/json"),  # nothing that is offered
        ("text/html", "text/html"),
        ("TEXT/HTML; charset=utf-8", "text/html"),
        (CHROME_PAGE, "text/html"),
        (CHROME_IMAGE, "image/png"),
        ("image/png;q=0.5, */*;q=0.1", "image/png"),
        ("application/json;q=0.2, text/*;q=0.3", "text/html"),
        ("application/json;q=0, */*", "text/html"),  # the most specific range decides
        ("*/*;q=0.5, image/png;q=0.4", "application/json"),
        ("text/html;q=much, image/png;q=0.1", "image/png"),
    ],
)
def test_the_best_of_what_is_offered(accept: str, expected: str) -> None:
    """Qualities order the types, the more specific range counts, and JSON is what who doesn't care gets."""
    assert preferred(accept, OFFERED) == expected
