"""The files of the page, over HTTP; what they do is seen in a browser (tests/web)."""

import re
from pathlib import Path

import httpx
import pytest

from service.core.settings import Settings
from service.page import FILES, FOLDER
from tests.service.conftest import serving

MAX_BYTES = 300_000


def test_each_file_has_its_type_and_a_tag(api: httpx.Client) -> None:
    """Modules, styles and pages say what they are; one that a browser has is not sent again."""
    for path, media_type in (
        ("/", "text/html; charset=utf-8"),
        ("/docs", "text/html; charset=utf-8"),
        ("/web/views/search.js", "text/javascript; charset=utf-8"),
        ("/web/style.css", "text/css; charset=utf-8"),
        ("/web/icon.svg", "image/svg+xml"),
    ):
        sent = api.get(path)
        assert (sent.status_code, sent.headers["content-type"]) == (200, media_type)
        assert sent.headers["cache-control"] == "no-cache"
        assert "set-cookie" not in sent.headers
        again = api.get(path, headers={"If-None-Match": sent.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        policy = "content-security-policy"  # a browser takes it from the newer answer
        assert again.headers[policy] == sent.headers[policy]


@pytest.mark.parametrize("name", ["../app.py", "%2e%2e/app.py", "..%2f..%2fpyproject.toml", "views", "nowhere.js", ""])
def test_only_files_of_the_page_are_served(api: httpx.Client, name: str) -> None:
    """Whatever else is asked for, by any spelling of a path, is not found."""
    response = api.get(f"/web/{name}")
    assert (response.status_code, response.json()["code"]) == (404, "not_found")


def test_the_page_needs_no_database(api_settings: Settings) -> None:
    """It is there when the database is not."""
    settings = api_settings.model_copy(update={"database_url": "postgresql://nobody@127.0.0.1:1/none"})
    with serving(settings) as url:
        assert httpx.get(url).status_code == 200
        assert httpx.get(f"{url}/web/app.js").status_code == 200


def test_the_page_is_small() -> None:
    """All of its files together have fewer bytes than a photograph."""
    assert sum(len(file.content) for file in FILES.values()) < MAX_BYTES


def test_every_module_that_is_imported_is_there() -> None:
    """No import leads nowhere, and none leads to another host."""
    for path in FOLDER.rglob("*.js"):
        for target in re.findall(r"""(?:from |import\()"([^"]+)\"""", path.read_text()):
            assert target.startswith("."), f"{path.name}: {target}"
            assert (path.parent / target).is_file(), f"{path.name}: {target}"


def test_no_module_takes_markup() -> None:
    """Names come from users: no module has a function that makes elements of a text."""
    forbidden = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|setHTML|\beval\b|new Function"
    )
    for path in FOLDER.rglob("*.js"):
        assert not forbidden.search(path.read_text()), path.name


def test_every_file_is_used() -> None:
    """A module that nobody imports is no part of the page."""
    texts = {path: path.read_text() for path in FOLDER.rglob("*") if path.suffix in {".js", ".html"}}
    used: set[Path] = set()
    for path, text in texts.items():
        used |= {(path.parent / target).resolve() for target in re.findall(r""""(\./[^"]+|\.\./[^"]+)\"""", text)}
        used |= {FOLDER / target for target in re.findall(r"/web/([^\"]+)", text)}
    assert {FOLDER / name for name in FILES} - used == {FOLDER / "index.html", FOLDER / "docs.html"}
