"""The training batches of a run, in order: which images, and how each of their two views is made.

Everything here is a function of (seed, step), so a run can start at any step.

Legend: N images a step, 2N views, S their side.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from models.config import PretrainRecipe
from trainer.augment import ViewParameters, sample_parameters, two_views
from trainer.compiler import compiles_for
from trainer.data import ImageBatch, ImageStore, epoch_order


@dataclass(frozen=True)
class TrainingBatch:
    """N images and what is random about their views."""

    images: ImageBatch
    parameters: ViewParameters
    compiled: bool  # on CUDA, the augmentation

    def views(self) -> Tensor:
        """Both views of every image, (2N, 3, S, S) float32 in [0, 1], channels_last; rows N..2N-1 are x2."""
        views = two_views(self.images, self.parameters, compiled=self.compiled)
        return views.contiguous(memory_format=torch.channels_last)


def training_batches(store: ImageStore, recipe: PretrainRecipe, first: int, steps: int) -> Iterator[TrainingBatch]:
    """The batches of steps first .. steps - 1.

    For a GPU the next one is gathered and drawn by a thread while the host starts the kernels of this one; a CPU
    has nothing to spare for that.
    """
    batches = _in_turn(store, recipe, first, steps)
    return _one_ahead(batches) if store.device.type == "cuda" else batches


def _in_turn(store: ImageStore, recipe: PretrainRecipe, first: int, steps: int) -> Iterator[TrainingBatch]:
    steps_per_epoch = len(store) // recipe.batch_size  # the images left over sit this epoch out
    for step in range(first, steps):
        epoch, batch_number = divmod(step, steps_per_epoch)
        if batch_number == 0 or step == first:
            order = epoch_order(len(store), seed=recipe.seed, epoch=epoch)
        images = store.batch(order[batch_number * recipe.batch_size :][: recipe.batch_size])
        size = recipe.preprocessing.image_size
        drawn = sample_parameters(recipe.augmentation, images.heights, images.widths, size, seed=recipe.seed, step=step)
        yield TrainingBatch(images, drawn.to(store.device), recipe.compile and compiles_for(store.device))


def _one_ahead(batches: Iterator[TrainingBatch]) -> Iterator[TrainingBatch]:
    """The same batches, each made while the one before is used."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = thread.submit(next, batches, None)
            yield batch
