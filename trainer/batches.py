"""The training batches of a run, in order: which images, and how each of their two views is made.

Everything here is a function of (seed, step), so a run can start at any step.

Legend: N images a step, 2N views, S their side; of several ranks each has n images of the N.
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
from trainer.ranks import ALONE, Ranks


@dataclass(frozen=True)
class TrainingBatch:
    """This rank's n images of a step and what is random about their views."""

    images: ImageBatch
    parameters: ViewParameters
    compiled: bool  # on CUDA, the augmentation

    def views(self) -> Tensor:
        """Both views of every image, (2n, 3, S, S) float32 in [0, 1], channels_last; rows n..2n-1 are x2."""
        views = two_views(self.images, self.parameters, compiled=self.compiled)
        return views.contiguous(memory_format=torch.channels_last)


def training_batches(
    store: ImageStore, recipe: PretrainRecipe, first: int, steps: int, ranks: Ranks = ALONE
) -> Iterator[TrainingBatch]:
    """The batches of steps first .. steps - 1, of each what is this rank's.

    For a GPU the next one is gathered and drawn by a thread while the host starts the kernels of this one; a CPU
    has nothing to spare for that.
    """
    batches = _in_turn(store, recipe, first, steps, ranks)
    return _one_ahead(batches) if store.device.type == "cuda" else batches


def _in_turn(
    store: ImageStore, recipe: PretrainRecipe, first: int, steps: int, ranks: Ranks = ALONE
) -> Iterator[TrainingBatch]:
    steps_per_epoch = len(store) // recipe.batch_size  # the images left over sit this epoch out
    for step in range(first, steps):
        epoch, batch_number = divmod(step, steps_per_epoch)
        if batch_number == 0 or step == first:
            order = epoch_order(len(store), seed=recipe.seed, epoch=epoch)
        everyone = order[batch_number * recipe.batch_size :][: recipe.batch_size]  # (N,)
        heights, widths = store.heights[everyone], store.widths[everyone]  # the draws of a batch are of all its images
        size = recipe.preprocessing.image_size
        drawn = sample_parameters(recipe.augmentation, heights, widths, size, seed=recipe.seed, step=step)
        own = ranks.own(recipe.batch_size)
        images, drawn = store.batch(everyone[own]), drawn.rows(own)
        yield TrainingBatch(images, drawn.to(store.device), recipe.compile and compiles_for(store.device))


def _one_ahead(batches: Iterator[TrainingBatch]) -> Iterator[TrainingBatch]:
    """The same batches, each made while the one before is used."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = thread.submit(next, batches, None)
            yield batch
