"""Reports as pages."""

import base64
import re
from functools import cache
from html.parser import HTMLParser
from typing import Any

import pytest
from markupsafe import Markup

from service.report.html import page, report_page, section
from tests.service.report import samples

HOSTILE = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>{{ 7 * 7 }}"
VOID = {"meta", "img", "br"}


@cache
def sample_page(kind: str) -> str:
    """The page of a sample; drawing takes a while."""
    return report_page(samples.ALL[kind]())


class Page(HTMLParser):
    """A page's elements, attributes and text, and its tables by caption as lists of cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.facts: dict[str, str] = {}
        self.text = ""
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.name = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        while self.open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        self.text += data
        where = self.open[-1] if self.open else ""
        if where == "caption":
            self.rows = self.tables.setdefault(data, [])
        elif where in {"td", "th"}:
            self.rows[-1][-1] += data
        elif where == "dt":
            self.name = data
        elif where == "dd":
            self.facts[self.name] = data


@pytest.mark.parametrize("kind", list(samples.ALL))
def test_a_page_needs_nothing_from_outside(kind: str) -> None:
    """No script, no link, no address but that of its picture, which is in the page, with words in its place."""
    text = sample_page(kind)
    found = Page(text)
    assert not {"script", "link", "iframe", "object", "form", "base", "a"} & set(found.tags)
    assert [name for name, _ in found.attributes if name.startswith("on") or name in {"href", "action", "style"}] == []
    assert re.findall(r"https?:|@import|url\(", text) == []
    [source] = [value for name, value in found.attributes if name == "src"]
    assert source is not None
    assert base64.b64decode(source.removeprefix("data:image/png;base64,")).startswith(b"\x89PNG")
    assert [value for name, value in found.attributes if name == "alt" and value]


@pytest.mark.parametrize("kind", list(samples.ALL))
def test_a_page_says_the_setting(kind: str) -> None:
    """Data set, images, encoder, device and time."""
    facts = Page(sample_page(kind)).facts
    assert facts["Data set"] == "pets (ds_1)"
    assert facts["Images"] == "6,000 images (5,000 train, 1,000 test); 2 classes"
    assert facts["Device"] == "cpu on node-a (2 cores)"
    assert facts["Time from start to end"] == "4.0 min"
    if kind != "ablation":
        assert any("resnet10 x 0.25 on 32 x 32 pixels" in value for value in facts.values())


def test_a_page_says_which_images_score() -> None:
    """How many, of which split; and how many were learned from."""
    assert Page(sample_page("linear_probe")).facts["Scored on"] == "30 images: test"
    facts = Page(sample_page("layer_sweep")).facts
    assert facts["Scored on"] == "1,000 images: a fifth of the training images, held out"
    assert facts["Learned from"] == "5,000 images"
    assert facts["Seed"] == "7"
    assert Page(sample_page("ablation")).facts["Scored on"] == "1,000 images: test"


def test_the_numbers_of_a_page_are_those_of_the_report() -> None:
    """The table of an ablation, read back from the HTML, has every mean of the JSON."""
    made = samples.ablation(samples.TWO_FIELDS)
    head, *rows = Page(sample_page("ablation")).tables["Every combination"]
    at = head.index("Top-1, mean (%)")
    assert [float(row[at]) for row in rows] == [round(100 * cell["mean"], 1) for cell in made["table"]["cells"]]


def test_a_lost_attempt_is_told() -> None:
    """Each attempt with how it ended and why."""
    head, first, second = Page(sample_page("pretrain")).tables["Attempts"]
    assert head[3:5] == ["As", "Because"]
    assert first[3:5] == ["queued", "rank_killed"]
    assert second[0] == "2"


def hostile_reports() -> dict[str, Any]:
    """Whatever a user can name, by where it stands."""
    probe = samples.linear_probe((HOSTILE, "dog", "eel"))
    named = samples.linear_probe()
    named["dataset"]["name"] = HOSTILE
    failed = samples.report("index", job={"status": "failed", "error": {"code": "crashed", "message": HOSTILE}})
    warned = samples.report("index", warnings=[{"code": "not_converged", "message": HOSTILE}])
    lost = samples.lose(samples.ablation(samples.TWO_FIELDS), 0, HOSTILE)
    recipe = samples.report("index", job={"recipe": {"note": HOSTILE}})
    return {"class": probe, "data set": named, "error": failed, "warning": warned, "cause": lost, "recipe": recipe}


@pytest.mark.parametrize("where", list(hostile_reports()))
def test_hostile_names_are_text(where: str) -> None:
    """A name that would be a script, an image or a template is shown as it is."""
    text = report_page(hostile_reports()[where])
    found = Page(text)
    assert "script" not in found.tags
    assert not any(name == "onerror" for name, _ in found.attributes)
    assert "<script>alert('x')</script>" in found.text
    assert "{{ 7 * 7 }}" in found.text


def test_reports_are_put_together_on_one_page() -> None:
    """Sections in their order under a title; what isn't a fragment is escaped, not trusted."""
    made = samples.linear_probe()
    text = page("Two <b>", [section(made), section(samples.transform_probe()), Markup("<p>end</p>"), HOSTILE])  # type: ignore[list-item]
    found = Page(text)
    assert found.tags.count("section") == 2
    assert found.tags.count("html") == 1
    assert "Two <b>" in found.text
    assert "script" not in found.tags
    assert text.index("Class by class") < text.index("Table 3") < text.index("<p>end</p>")


def test_a_kind_without_a_picture_shows_its_result() -> None:
    """An index job's figures as a table, and no image."""
    found = Page(report_page(samples.report("index", {"num_indexed": 12})))
    assert found.tables["Result"][1:] == [["num_indexed", "12"]]
    assert "img" not in found.tags


def test_deleted_things_leave_a_page() -> None:
    """Neither data set nor model, nor attempts, nor a result."""
    made = samples.report("linear_probe", dataset=None, model=None, attempts=[])
    assert Page(report_page(made)).facts["Data set"] == "deleted"
