"""The documents as a site."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from service.core.settings import Settings
from service.routes.recipes import RECIPES
from tests.docs.pages import ROOT
from tests.service.commands.test_help import COMMAND, commands

OUTSIDE = re.compile(
    r"""<(?:script|img|iframe|source)[^>]+src=["']?(?:https?:)?//|<link[^>]+href=["']?(?:https?:)?//|class="mermaid"""
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as `make docs` does, without a warning."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "excluded from the built site" not in done.stderr  # which is no warning to MkDocs
    return folder


def text(site: Path, name: str) -> str:
    """A page's text, without its elements."""
    return re.sub(r"<[^>]+>", "", (site / name).read_text())


def test_nothing_comes_from_elsewhere(site: Path) -> None:
    """No page loads a script, a style, a font or a picture of another host."""
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    assert [page.name for page in pages if OUTSIDE.search(page.read_text())] == []
    styles = [path for path in site.rglob("*.css") if re.search(r"url\(['\"]?(https?:)?//|@import", path.read_text())]
    assert styles == []


def test_the_reference_is_complete(site: Path) -> None:
    """Every command, operation, kind of recipe and setting has its place."""
    command_line = text(site, "reference/command-line.html")
    assert [name for name, _ in commands(COMMAND) if name not in command_line] == []
    settings = text(site, "reference/settings.html")
    assert [name for name in Settings.model_fields if f"SIMCLR_{name.upper()}" not in settings] == []
    recipes = text(site, "reference/recipes.html")
    assert [kind for kind in RECIPES if kind not in recipes] == []
    assert "loss.temperature" in recipes
    api = text(site, "reference/api.html")
    assert all(operation in api for operation in ("POST /v1/jobs", "GET /v1/jobs/{job_id}/events", "GET /readyz"))


def test_files_that_pages_link_to_are_in_it(site: Path) -> None:
    """As the code has them, and none of the programs that build it."""
    assert (site / "files/docker/nginx.conf").read_bytes() == (ROOT / "docker/nginx.conf").read_bytes()
    assert not list(site.rglob("*.py"))
