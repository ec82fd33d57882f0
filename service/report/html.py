"""Reports as HTML: a fragment for each, and pages of one file that need nothing from outside.

A page brings its styles and pictures with it and runs no script; `CONTENT_SECURITY_POLICY` holds it to that. Names,
labels and messages come from users: the templates escape all of them.
"""

import base64
import json
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from service.report.kinds import kind_of
from service.report.parts import JSON
from service.report.picture import picture
from service.report.setting import setting

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:;"
    " frame-ancestors 'self'; base-uri 'none'; form-action 'none'"
)

_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def section(report: JSON) -> Markup:
    """One report as a fragment of a page: what it is, its setting, picture, tables, attempts and recipe."""
    kind = kind_of(report)
    fragment = _templates.get_template("section.html").render(
        report=report,
        job=report["job"],
        facts=[*setting(report), *kind.facts(report)],
        tables=kind.tables(report),
        picture=_data_uri(report),
        shows=kind.shows,
        recipe=json.dumps(report["job"]["recipe"], indent=2, ensure_ascii=False),
    )
    return Markup(fragment)  # noqa: S704  # the template has escaped what it holds


def claims_section(claims: Sequence[JSON], about: str) -> Markup:
    """What became of each claim (service/claims.py), as a fragment of a page."""
    fragment = _templates.get_template("claims.html").render(claims=claims, about=about)
    return Markup(fragment)  # noqa: S704  # the template has escaped what it holds


def page(title: str, fragments: Sequence[Markup]) -> str:
    """A whole page of fragments; each must be Markup, as text is escaped."""
    return _templates.get_template("page.html").render(title=title, fragments=fragments)


def report_page(report: JSON) -> str:
    """The page of one report."""
    return page(f"{report['job']['kind']} {report['job']['id']}", [section(report)])


def _data_uri(report: JSON) -> str | None:
    drawn = picture(report)
    return f"data:image/png;base64,{base64.b64encode(drawn).decode()}" if drawn else None
