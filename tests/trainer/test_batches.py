"""The batches of a run are a function of (seed, step)."""

from pathlib import Path

import pytest
import torch

from models.config import pretrain_recipe
from tests.trainer.pretraining import RECIPE, run_folder
from trainer.augment import sample_parameters
from trainer.batches import _in_turn, _one_ahead, training_batches
from trainer.data import ImageStore, epoch_order
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


def test_every_step_draws_its_own_views(store: ImageStore) -> None:
    """Step k's views are those of (seed, k), in every epoch others, and its images those of the epoch's order."""
    batches = list(training_batches(store, RECIPE_OF_TWO_STEPS_AN_EPOCH, 0, 6))
    for step, batch in enumerate(batches):
        drawn = sample_parameters(
            RECIPE_OF_TWO_STEPS_AN_EPOCH.augmentation, batch.images.heights, batch.images.widths, 16, seed=0, step=step
        )
        assert torch.equal(batch.parameters.start.left, drawn.start.left)
        indices = epoch_order(20, seed=0, epoch=step // 2)[8 * (step % 2) :][:8]
        assert torch.equal(batch.images.groups[0].pixels, store.batch(indices).groups[0].pixels)
    assert not torch.equal(batches[0].parameters.start.left, batches[2].parameters.start.left)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_batches_on_cuda_are_the_cpus(store: ImageStore, tmp_path: Path) -> None:
    """A GPU's views, made ahead by a thread, are the CPU's within TF32's rounding."""
    pack = Pack.open(tmp_path / "dataset")
    on_gpu = ImageStore(pack, pack.split("train"), torch.device("cuda"))
    pairs = zip(
        training_batches(on_gpu, RECIPE_OF_TWO_STEPS_AN_EPOCH, 0, 4),
        training_batches(store, RECIPE_OF_TWO_STEPS_AN_EPOCH, 0, 4),
        strict=True,
    )
    for there, here in pairs:
        torch.testing.assert_close(there.views().cpu(), here.views(), rtol=0, atol=4 / 255)
