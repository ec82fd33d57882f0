"""The part of the site that is made when it is built, so that it can't be other than the code (a hook of MkDocs)."""

import posixpath
import re
from pathlib import Path

from command_line import command_line
from decisions_page import decisions
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page
from notebook import notebook
from openapi_pages import operations, schemas
from recipe_page import recipes
from settings_page import settings

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\]\((?!https?://|#|mailto:)([^)#\s]+)(#[^)\s]*)?\)")
ICON = "service/web/icon.svg"  # the page's own
PAGES = {
    "reference/command-line.md": command_line,
    "reference/api.md": operations,
    "reference/schemas.md": schemas,
    "reference/recipes.md": recipes,
    "reference/settings.md": settings,
    "client.md": lambda: notebook(ROOT / "docs/client.ipynb"),
    "changelog.md": (ROOT / "CHANGELOG.md").read_text,
    "decisions/index.md": lambda: decisions(ROOT / "docs/decisions"),
}
# Of the pages that are made of a file of the repository: which one. What links to that file links to the page.
SOURCES = {"client.md": "docs/client.ipynb", "changelog.md": "CHANGELOG.md", "decisions/index.md": "docs/decisions"}
MADE_OF = {source: uri for uri, source in SOURCES.items()}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages, and files of the repository that pages link to."""
    for uri, make in PAGES.items():
        files.append(File.generated(config, uri, content=make()))
    files.append(File.generated(config, "images/icon.svg", abs_src_path=str(ROOT / ICON)))
    for file in list(files.documentation_pages()):
        if posixpath.dirname(file.src_uri) == "decisions" and file.src_uri not in PAGES:
            file.inclusion = InclusionLevel.NOT_IN_NAV  # the index has them
        for target in _links(file):
            uri = _place(target)
            if (ROOT / target).is_file() and files.get_file_from_path(uri) is None:
                files.append(File.generated(config, uri, abs_src_path=str(ROOT / target)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001  # MkDocs passes all by name
    """Have links that are right in the repository be right in the site."""
    start = posixpath.dirname(page.file.src_uri)

    def rewrite(match: re.Match[str]) -> str:
        uri = _place(_target(page.file, match[1]))
        return f"]({posixpath.relpath(uri, start)}{match[2] or ''})"

    return LINK.sub(rewrite, markdown)


def _links(file: File) -> set[str]:
    return {_target(file, match[1]) for match in LINK.finditer(file.content_string)}


def _target(file: File, link: str) -> str:
    """Where a link leads, as a path in the repository."""
    source = SOURCES.get(file.src_uri, f"docs/{file.src_uri}")
    folder = source if (ROOT / source).is_dir() else posixpath.dirname(source)
    return posixpath.normpath(posixpath.join(folder, link))


def _place(target: str) -> str:
    """Where a path of the repository is in the site: as it is if it is a document, else in a folder for files."""
    if target in MADE_OF:
        return MADE_OF[target]
    # MkDocs leaves out files whose names begin with a dot.
    return target.removeprefix("docs/") if target.startswith("docs/") else f"files/{target.removeprefix('.')}"
