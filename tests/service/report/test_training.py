"""Pretraining in reports."""

import math

import pytest

from service.report.training import curve, draw, tables
from tests.service.report.samples import pretrain


def test_steps_that_were_done_twice_count_once() -> None:
    """Of the attempt that was lost, what comes after the checkpoint is left out; steps rise."""
    steps, losses = curve(pretrain()["metrics"], "loss")
    assert steps == list(range(1, 201))
    assert losses == pytest.approx([5 * math.exp(-step / 100) for step in steps])


def test_a_measure_that_is_taken_seldom_is_a_line_without_gaps() -> None:
    """Its points are those steps alone that have it."""
    assert curve(pretrain()["metrics"], "entropy")[0] == list(range(10, 201, 10))


def test_each_panel_shows_its_measures_with_their_unit() -> None:
    """Six panels; accuracy in percent; a dotted line where the second attempt begins."""
    figure = draw(pretrain())
    assert figure is not None
    panels = {axes.get_title(loc="left") or axes.get_title(): axes for axes in figure.axes}
    assert list(panels)[:2] == ["Loss", "Contrastive accuracy"]
    assert len(panels) == 6
    accuracy = panels["Contrastive accuracy"]
    measured, begin = accuracy.get_lines()
    assert list(measured.get_ydata())[-1] == pytest.approx(80)
    assert accuracy.get_ylabel() == "% of views"
    assert accuracy.get_xlabel() == "step"
    assert list(begin.get_xdata()) == [101, 101]


def test_the_figures_at_the_end_are_those_of_the_result() -> None:
    """The result counts, and the curve's last value where the result has none."""
    end, probes = tables(pretrain())
    assert dict(end.rows) == {
        "Steps": "200",
        "Loss (nats)": "0.6789",
        "Contrastive accuracy (%)": "81.2",
        "Entropy (nats)": "3.21",
        "Alignment": "0.51",
        "Uniformity": "-2.2",
        "Effective rank of h": "40",
        "Effective rank of z": "20",
        "Images a second": "766.4",
        "Training time": "4.0 min",
        "ONNX parity (least cosine)": "0.999990",
    }
    assert probes.rows == [("linear_probe", "50.1", "1,000", "job_9")]


def test_the_margin_loss_is_not_in_nats() -> None:
    """It is a distance; the others are logarithms of probabilities."""
    made = pretrain()
    made["job"]["recipe"] = {"loss": {"name": "margin"}}
    figure = draw(made)
    assert figure is not None
    assert figure.axes[0].get_ylabel() == "no unit"
    assert tables(made)[0].rows[1] == ("Loss (no unit)", "0.6789")


def test_a_run_that_goes_on_shows_what_there_is() -> None:
    """The newest of the curves; before the first point there is no picture."""
    made = pretrain()
    made["job"] |= {"result": None, "status": "running", "progress": {"step": 200, "steps": 400}}
    [so_far, _] = tables(made)
    assert so_far.caption == "So far"
    assert dict(so_far.rows)["Entropy (nats)"] == "4"
    assert draw(made) is not None
    assert draw({**made, "metrics": {}}) is None
