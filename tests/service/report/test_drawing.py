"""Pictures as files."""

import struct
import warnings
from concurrent.futures import ThreadPoolExecutor

import matplotlib as mpl
import pytest

from service.report.drawing import DPI, label, new_figure, png
from service.report.picture import picture
from tests.service.report import samples


def size_of(content: bytes) -> tuple[int, int]:
    """Width and height of a PNG file, from its first chunk."""
    assert content.startswith(b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR")
    width, height = struct.unpack(">II", content[16:24])
    return width, height


def test_a_picture_is_a_png_of_the_stated_size() -> None:
    """Inches times dots an inch."""
    content = png(lambda: new_figure(4, 2.5))
    assert content is not None
    assert size_of(content) == (4 * DPI, 2.5 * DPI)


@pytest.mark.parametrize("kind", list(samples.ALL))
def test_every_kind_has_its_picture(kind: str) -> None:
    """A PNG that is wide enough to be read."""
    content = picture(samples.ALL[kind]())
    assert content is not None
    assert size_of(content)[0] > 600


def test_the_same_report_is_the_same_bytes() -> None:
    """Whatever matplotlib was told before, and in several threads at once; no date and no version is in the file."""
    made = samples.ablation(samples.TWO_FIELDS)
    first = picture(made)
    with mpl.rc_context({"font.size": 20, "figure.facecolor": "black"}), ThreadPoolExecutor(4) as threads:
        assert set(threads.map(picture, [made] * 4)) == {first}
        assert mpl.rcParams["font.size"] == 20
    assert first is not None
    assert b"matplotlib" not in first.lower()


def test_names_are_drawn_as_they_are() -> None:
    """No formula, no second line, no glyph that the font lacks, no endless label: nothing fails or warns."""
    hostile = ("$\\frac{$", "a\nb\t\x07", "\N{CJK UNIFIED IDEOGRAPH-732B}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert picture(samples.linear_probe(hostile)) is not None
    assert label("a\nb") == "a b"
    assert label("\N{CJK UNIFIED IDEOGRAPH-732B}é") == "\N{WHITE SQUARE}é"
    assert label("x" * 100) == "x" * 23 + "…"
