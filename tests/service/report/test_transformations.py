"""Transform probes in reports."""

import pytest

from service.report.transformations import draw, tables
from tests.service.report.samples import transform_probe


def test_table_3_has_ours_and_the_papers() -> None:
    """Accuracy, interval and chance, and the paper's accuracy and chance, of each transformation and layer."""
    [table] = tables(transform_probe())
    assert table.rows[0] == ("color", "h", "98.0", "96.0 to 99.0", "50.0", "99.3", "80.0")
    assert table.rows[3] == ("rotation", "z", "30.0", "28.0 to 31.0", "25.0", "25.6", "25.0")


def test_bars_stand_in_groups_of_a_transformation() -> None:
    """A layer's bars are of one colour, next to the other layer's, with the paper's mark and chance on them."""
    figure = draw(transform_probe())
    assert figure is not None
    axes = figure.axes[0]
    h, z = (bars for bars in axes.containers if len(bars) == 2 and hasattr(bars[0], "get_height"))
    assert [bar.get_height() for bar in h] == pytest.approx([98, 61])
    assert [bar.get_height() for bar in z] == pytest.approx([90, 30])
    for group, (left, right) in enumerate(zip(h, z, strict=True)):
        assert group - 0.5 < left.get_x() < right.get_x() < group + 0.5
    marks = [line for line in axes.get_lines() if line.get_marker() == "D"]
    assert list(marks[0].get_ydata()) == pytest.approx([99.3, 67.6])
    assert list(marks[1].get_ydata()) == pytest.approx([97.4, 25.6])
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["color", "rotation"]
