"""The paper's numbers, found by the fields of a run."""

from typing import Any

import pytest

from service.report import paper
from tests.service.report.samples import RECIPE

BLURRED = {"augmentation.operations": ["crop", "blur"], "augmentation.blur_probability": 0.5}
SHARP = {**BLURRED, "augmentation.blur_probability": 0.0}


@pytest.mark.parametrize(
    ("varied", "values", "top1"),
    [
        (["augmentation.color_strength"], {"augmentation.color_strength": 0.25, **SHARP}, 61.0),
        (["augmentation.color_strength"], {"augmentation.color_strength": 1.0, **SHARP}, 63.2),
        (["augmentation.color_strength"], {"augmentation.color_strength": 1.0, **BLURRED}, 64.5),
        (["augmentation.color_strength"], {"augmentation.color_strength": 0.25, **BLURRED}, None),
        (["loss.name", "loss.semi_hard"], {"loss.name": "margin", "loss.semi_hard": True}, 57.5),
        (["loss.name"], {"loss.name": "nt_logistic", "loss.semi_hard": False}, 51.6),
        (["loss.temperature"], {"loss.temperature": 0.5, "loss.normalize": True}, 60.7),
        (["loss.temperature", "loss.normalize"], {"loss.temperature": 0.5, "loss.normalize": False}, None),
        (["optimizer.scaling"], {"batch_size": 256, "optimizer.scaling": "sqrt"}, 62.8),
        (["encoder.width"], {"encoder.width": 4}, 76.5),
    ],
)
def test_a_run_is_set_beside_the_row_of_its_fields(
    varied: list[str], values: dict[str, Any], top1: float | None
) -> None:
    """The table that varies what the grid varies; the row with the run's fields; none where the paper has none."""
    table = paper.table_of(varied)
    assert table is not None
    assert table.top1(paper.fields_of(RECIPE, values)) == top1


@pytest.mark.parametrize("varied", [[], ["head.output_size"], ["loss.temperature", "batch_size"]])
def test_a_grid_that_the_paper_has_not_has_no_table(varied: list[str]) -> None:
    """One field that a table doesn't vary is enough, as its numbers are for one value of it."""
    assert paper.table_of(varied) is None


def test_what_a_cell_does_not_vary_comes_from_the_recipe() -> None:
    """A grid over the temperature alone has the base's normalisation; the small preset doesn't blur."""
    fields = paper.fields_of(RECIPE, {"loss.temperature": 10.0})
    assert (fields["loss.normalize"], fields["loss.temperature"], fields["blur"]) == (True, 10.0, False)
    assert fields["batch_size"] == 256
