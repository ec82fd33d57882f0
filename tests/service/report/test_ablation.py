"""Ablations in reports."""

import pytest
from matplotlib.patches import Rectangle

from service.report.ablation import draw, tables
from tests.service.report.samples import TWO_FIELDS, ablation, lose

ONE_FIELD = {"loss.temperature": [0.1, 0.5]}


def test_each_combination_has_its_scores_and_the_papers() -> None:
    """Mean, spread, runs, half-width, Table 5's columns and number, as they stand in the JSON."""
    [table] = tables(ablation(TWO_FIELDS))
    assert table.columns[-3:] == ["Contrastive accuracy (%)", "Entropy (nats)", "Paper, Table 5 (%)"]
    assert table.rows[0] == ["yes", "0.1", "10.5", "0.7", "2 of 2", "2.0", "87.5", "4.5", "64.4"]
    assert table.rows[5] == ["no", "10", "15.5", "0.7", "2 of 2", "2.0", "87.5", "4.5", "57.2"]
    assert table.rows[1][-1] == "58.0"
    assert table.rows[2][-1] == "–"  # noqa: RUF001
    assert table.marked == {5}
    assert "by about 2.0 points" in table.note
    assert "ImageNet, ResNet-50" in table.note


def test_what_is_missing_is_said_with_its_cause() -> None:
    """Combination, seed, status, message and job of each run that isn't there; its cell counts none."""
    all_, missing = tables(lose(ablation(TWO_FIELDS), 1))
    assert all_.rows[1][2:5] == ["–", "–", "0 of 2"]  # noqa: RUF001
    assert missing.rows[1] == (
        "normalize yes, temperature 1",
        "1",
        "failed",
        "the loss is NaN (non_finite_loss)",
        "job_4",
    )


def test_the_heat_map_has_each_value_in_its_cell() -> None:
    """Text, colour and hatching by row and column."""
    figure = draw(lose(ablation(TWO_FIELDS), 1))
    assert figure is not None
    axes = figure.axes[0]
    texts = {(text.get_position()[1], text.get_position()[0]): text.get_text() for text in axes.texts}
    assert texts == {
        (0, 0): "10.5\n±0.7",
        (0, 2): "12.5\n±0.7",
        (1, 0): "13.5\n±0.7",
        (1, 1): "14.5\n±0.7",
        (1, 2): "15.5\n±0.7",
    }
    values = axes.images[0].get_array()
    assert values is not None
    assert values[1, 0] == pytest.approx(13.5)
    [hatched] = [patch for patch in axes.patches if isinstance(patch, Rectangle) and patch.get_hatch()]
    assert hatched.get_xy() == (0.5, -0.5)
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("loss.normalize", "loss.temperature")


def test_a_single_seed_has_the_probes_interval_as_its_error() -> None:
    """The bar is 2 points either way, as the interval is 4 long; over seeds it is the standard deviation."""
    for seeds, half in (((0,), 2.0), ((0, 1), 0.71)):
        figure = draw(ablation(ONE_FIELD, seeds))
        assert figure is not None
        line, _, [bars] = figure.axes[0].containers[0]
        assert list(line.get_xdata()) == pytest.approx([10 + sum(seeds) / 2, 11 + sum(seeds) / 2])
        lengths = [(right - left) / 2 for (left, _), (right, _) in bars.get_segments()]
        assert lengths == pytest.approx([half, half])


def test_before_the_first_measure_there_is_nothing_to_draw() -> None:
    """None, also where there is nothing but failures."""
    made = ablation(ONE_FIELD)
    assert draw(lose(lose(made, 0), 1)) is None
