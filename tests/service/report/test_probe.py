"""Probes in reports."""

import numpy as np
import pytest

from service.report.probe import MAX_BARS, draw, in_order, row_shares, shown_classes, tables
from tests.service.report.samples import linear_probe, report


def test_the_scores_are_those_of_the_result() -> None:
    """Top-1 with its interval and the number of test images; every class; the paper's with its setting."""
    scores, classes, landmarks = tables(linear_probe())
    assert scores.rows == [("Top-1", "70.0", "53.3 to 86.7")]
    assert scores.note.startswith("Of 30 images")
    assert classes.rows == [("cat", "80.0"), ("dog", "60.0"), ("eel", "70.0")]
    assert ("B.9", "CIFAR-10, ResNet-50, linear evaluation, batch 1024, 1000 epochs", "94.0") in landmarks.rows


def test_fine_tuning_says_how_many_labels_it_saw() -> None:
    """The fraction and the number, beside the scores."""
    made = linear_probe()
    made["job"]["result"] |= {"label_fraction": 0.01, "num_labels": 50, "top5": 0.9}
    scores, *_ = tables(made)
    assert "1.0% of the labels were learned from: 50" in scores.note
    assert scores.rows[1] == ("Top-5", "90.0", "")


def test_the_confusion_matrix_has_each_share_in_its_cell() -> None:
    """Row: the class; column: what it is taken for; the bars are the classes' accuracies in percent."""
    figure = draw(linear_probe())
    assert figure is not None
    bars, confusion, _ = figure.axes
    assert [bar.get_width() for bar in bars.patches] == pytest.approx([80, 60, 70])
    assert [tick.get_text() for tick in bars.get_yticklabels()] == ["cat", "dog", "eel"]
    texts = {(text.get_position()[1], text.get_position()[0]): text.get_text() for text in confusion.texts}
    assert (texts[1, 0], texts[0, 1], texts[2, 1]) == ("30", "10", "30")
    assert (confusion.get_ylabel(), confusion.get_xlabel()) == ("class", "taken for")


def test_classes_are_in_the_data_sets_order() -> None:
    """Whatever order the result's keys have; of a probe that doesn't list the classes, by the data set's."""
    made = linear_probe()
    result = made["job"]["result"]
    result["per_class"] = dict(reversed(result["per_class"].items()))
    assert list(in_order(made)) == ["cat", "dog", "eel"]
    del result["classes"], result["per_class"]["eel"]
    assert list(in_order(made)) == ["cat", "dog"]  # those of the data set


def test_a_class_without_test_images_has_no_shares() -> None:
    """Its row is unknown, not zero."""
    assert np.isnan(row_shares([[1, 3], [0, 0]])).tolist() == [[False, False], [True, True]]
    assert row_shares([[1, 3], [0, 0]])[0].tolist() == [0.25, 0.75]


def test_of_very_many_classes_the_worst_are_drawn() -> None:
    """As many as are readable, the least accurate first."""
    per_class = {f"class {i}": 1 - i / 1000 for i in range(1000)}
    shown = shown_classes(per_class)
    assert len(shown) == MAX_BARS
    assert next(iter(shown)) == "class 999"


def test_a_probe_without_a_confusion_matrix_has_its_bars() -> None:
    """That of kNN has none; a probe that runs has no picture and no table yet."""
    result = {**linear_probe()["job"]["result"]}
    del result["confusion"], result["classes"], result["confidence_interval"]
    figure = draw(report("knn_probe", result))
    assert figure is not None
    assert len(figure.axes) == 1
    assert draw(report("knn_probe")) is None
    assert tables(report("knn_probe")) == []
