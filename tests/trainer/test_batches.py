"""The batches of a run are a function of (seed, step)."""

from pathlib import Path

import pytest
import torch

from models.config import pretrain_recipe
from tests.trainer.pretraining import RECIPE, run_folder
from trainer.batches import _in_turn, _one_ahead, training_batches
from trainer.data import ImageStore
from trainer.pack import Pack

RECIPE_OF_TWO_STEPS_AN_EPOCH = pretrain_recipe(RECIPE)


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    """20 images of 20 x 18 pixels: two steps of 8 an epoch."""
    pack = Pack.open(run_folder(tmp_path).dataset)
    return ImageStore(pack, pack.split("train"), torch.device("cpu"))


def test_batches_can_start_at_any_step(store: ImageStore) -> None:
    """Step 5's views are the same whether a run passed through steps 0..4 or was resumed."""
    through = [batch.views() for batch in training_batches(store, RECIPE_OF_TWO_STEPS_AN_EPOCH, 0, 6)]
    resumed = [batch.views() for batch in training_batches(store, RECIPE_OF_TWO_STEPS_AN_EPOCH, 5, 6)]
    assert len(resumed) == 1
    assert torch.equal(resumed[0], through[5])
    assert not torch.equal(through[5], through[4])
    assert resumed[0].is_contiguous(memory_format=torch.channels_last)


def test_batches_made_ahead_are_the_same(store: ImageStore) -> None:
    """A thread that prepares the next batch changes neither their order nor a bit of them, and ends with them."""
    ahead = _one_ahead(_in_turn(store, RECIPE_OF_TWO_STEPS_AN_EPOCH, 0, 5))
    for one, other in zip(ahead, _in_turn(store, RECIPE_OF_TWO_STEPS_AN_EPOCH, 0, 5), strict=True):
        assert torch.equal(one.views(), other.views())
