"""Grids of recipes."""

from typing import Any

import pytest
from pydantic import ValidationError

from models.ablation import AblationRecipe
from models.config import pretrain_recipe


def ablation(**fields: Any) -> AblationRecipe:
    """An ablation over `cpu-small`."""
    return AblationRecipe.model_validate({"base": {"preset": "cpu-small"}, **fields})


def test_a_grid_is_every_combination() -> None:
    """Two fields of two and three values are six recipes; all but these fields and the seed are the base's."""
    recipe = ablation(grid={"loss.normalize": [True, False], "loss.temperature": [0.1, 1, 10]}, seeds=[3, 4])
    assert [tuple(cell.values()) for cell in recipe.cells()] == [
        (True, 0.1), (True, 1), (True, 10), (False, 0.1), (False, 1), (False, 10),
    ]  # fmt: skip
    expected = pretrain_recipe({"preset": "cpu-small", "seed": 4, "loss": {"normalize": False, "temperature": 1}})
    assert recipe.recipe(recipe.cells()[4], 4) == expected


def test_a_value_may_be_a_list() -> None:
    """Compositions of augmentations, as in Fig. 5."""
    recipe = ablation(grid={"augmentation.operations": [["crop"], ["color_jitter", "crop"]]})
    operations = [recipe.recipe(cell, 0).augmentation.operations for cell in recipe.cells()]
    assert operations == [("crop",), ("color_jitter", "crop")]


@pytest.mark.parametrize(("fields", "message"), [
    ({"grid": {"loss.temprature": [1]}}, "fields of a pretraining recipe such as loss.temperature, not 'loss.tem"),
    ({"grid": {"loss.temperature.x": [1]}}, "not 'loss.temperature.x'"),
    ({"grid": {"preset": ["cifar10"]}}, "not 'preset'"),
    ({"grid": {"seed": [1]}}, "give `seeds`"),
    ({"grid": {"loss.temperature": [1, -1]}}, "with {'loss.temperature': -1}: loss.temperature: Input should"),
    ({"grid": {"loss.semi_hard": [True]}}, "semi_hard: for nt_logistic and margin"),
    ({"grid": {"loss.temperature": []}}, "at least 1 item"),
    ({"grid": {}}, "at least 1 item"),
    ({"grid": {"loss.temperature": [1]}, "seeds": [1, 1]}, "seeds: each once"),
    ({"grid": {"batch_size": list(range(2, 300))}, "seeds": [0, 1]}, "at most 512 pretraining runs"),
])  # fmt: skip
def test_what_can_not_be_run_is_refused_at_once(fields: dict[str, Any], message: str) -> None:
    """By the field, or by the combination, at fault."""
    with pytest.raises(ValidationError) as error:
        ablation(**fields)
    assert message in str(error.value)


def test_a_grid_of_more_combinations_than_memory_holds_is_refused() -> None:
    """They are counted, not made: 10^20 of them fit into a request of 2 MB."""
    names = ("loss.temperature", "batch_size", "optimizer.learning_rate", "optimizer.weight_decay")
    with pytest.raises(ValidationError, match=r"at most 512 pretraining runs .* not 100000000000000000000"):
        ablation(grid={name: [1] * 100_000 for name in names})
