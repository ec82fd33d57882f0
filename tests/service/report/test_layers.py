"""Layer sweeps in reports."""

import pytest

from service.report.layers import draw, in_order, tables
from tests.service.report.samples import layer_sweep

ORDER = ["stem", "layer2.1", "layer10.0", "h", "g1", "z"]


def test_layers_are_in_the_networks_order() -> None:
    """From the image to z, blocks by number; a ViT's too."""
    [table] = tables(layer_sweep())
    assert [row[0] for row in table.rows] == ORDER
    assert table.marked == {3}
    vit = [{"layer": name} for name in ("z", "blocks.10", "h", "blocks.2")]
    assert [row["layer"] for row in in_order(vit)] == ["blocks.2", "blocks.10", "h", "z"]


def test_a_row_is_its_layers() -> None:
    """That of h is the second of the result."""
    [table] = tables(layer_sweep())
    assert table.rows[3] == ("h", "64", "31.0", "29.0 to 34.0", "21.0", "11", "0.5", "-2")


def test_the_picture_marks_h() -> None:
    """Lines by layer in percent, and a band at h's place in each of three panels."""
    figure = draw(layer_sweep())
    assert figure is not None
    top1 = figure.axes[0]
    linear, knn = (line for line in top1.get_lines() if len(line.get_xdata()) == 6 and line.get_linestyle() == "-")
    assert list(linear.get_ydata()) == pytest.approx([34, 33, 32, 31, 35, 30])
    assert list(knn.get_ydata()) == pytest.approx([24, 23, 22, 21, 25, 20])
    assert [tick.get_text() for tick in figure.axes[2].get_xticklabels()] == ORDER
    for axes in figure.axes:
        [band] = axes.patches
        left, right = band.get_extents().transformed(axes.transData.inverted()).intervalx
        assert (left, right) == pytest.approx((2.6, 3.4))
