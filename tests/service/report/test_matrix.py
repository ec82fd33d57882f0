"""An ablation's grid as a matrix."""

import pytest

from service.report.matrix import compositions, matrix_of
from tests.service.report.samples import FIG_5, TWO_FIELDS, ablation


def means(grid: dict[str, list[object]]) -> list[list[float | None]] | None:
    matrix = matrix_of(ablation(grid)["table"])
    return matrix and [[cell and round(100 * cell["mean"], 1) for cell in row] for row in matrix.cells]


def test_two_fields_are_rows_and_columns() -> None:
    """The first field is down, the second across; each mean is where its values cross."""
    matrix = matrix_of(ablation(TWO_FIELDS)["table"])
    assert matrix is not None
    assert (matrix.row_title, matrix.column_title) == ("loss.normalize", "loss.temperature")
    assert (matrix.rows, matrix.columns) == (["yes", "no"], ["0.1", "1", "10"])
    assert means(TWO_FIELDS) == [[10.5, 11.5, 12.5], [13.5, 14.5, 15.5]]


def test_single_operations_are_on_fig_5s_diagonal() -> None:
    """Without the crop that all share: colour alone, colour then blur; blur then colour, blur alone."""
    matrix = matrix_of(ablation(FIG_5)["table"])
    assert matrix is not None
    assert (matrix.row_title, matrix.column_title) == ("first operation", "second operation")
    assert matrix.rows == matrix.columns == ["color_jitter", "blur"]
    assert means(FIG_5) == [[10.5, 11.5], [12.5, 13.5]]


def test_a_composition_that_was_not_asked_for_is_empty() -> None:
    """Of colour alone and colour then blur, blur has a column and no row."""
    grid: dict[str, list[object]] = {"augmentation.operations": [["color_jitter"], ["color_jitter", "blur"]]}
    assert means(grid) == [[10.5, 11.5]]
    assert means({"augmentation.operations": [["noise"], ["rotation", "noise"]]}) == [[10.5, None], [11.5, None]]


@pytest.mark.parametrize(
    ("values", "pairs"),
    [
        ([["crop"], ["crop", "blur"]], [("crop", "crop"), ("crop", "blur")]),
        ([["crop", "blur"], ["crop", "blur", "noise"]], [("blur", "blur"), ("blur", "noise")]),
        ([["crop"], ["crop", "blur", "noise"]], None),  # nothing is left of the first
        ([["crop", "blur", "noise"], ["blur"]], None),  # no front is shared
        ([["crop", "flip", "blur", "noise"], ["crop", "flip", "blur"]], [("blur", "noise"), ("blur", "blur")]),
    ],
)
def test_what_all_lists_share_in_front_is_left_out_where_it_must_be(
    values: list[list[str]], pairs: list[tuple[str, str]] | None
) -> None:
    """As few operations as make pairs of the lists; lists that can't be pairs are no matrix."""
    assert compositions(values) == pairs


def test_color_distortion_is_one_operation() -> None:
    """Jitter with grayscale after it; in another order, or apart, they are two."""
    color = ["color_jitter", "grayscale"]
    assert compositions([["crop", *color], [*color, "crop"], color]) == [
        ("crop", "color"),
        ("color", "crop"),
        ("color", "color"),
    ]
    assert compositions([["grayscale", "color_jitter"], ["crop"]]) == [("grayscale", "color_jitter"), ("crop", "crop")]


@pytest.mark.parametrize(
    "grid",
    [
        {"loss.temperature": [0.1, 1.0]},
        {"loss.temperature": [0.1, 1.0], "loss.normalize": [True, False], "batch_size": [64, 128]},
    ],
)
def test_other_grids_are_no_matrix(grid: dict[str, list[object]]) -> None:
    """One field of numbers, or three fields."""
    assert matrix_of(ablation(grid)["table"]) is None
