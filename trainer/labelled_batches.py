"""The batches of training with labels, in order: one view of each image, by crop and flip alone (B.5), and its class.

Everything here is a function of (seed, step), so a run can start at any step.

Legend: N images in the store, B of them a batch, S the views' side.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from models.config import Augmentation
from trainer.augment import cut_out, random_crops
from trainer.data import ImageStore, epoch_order, send
from trainer.supervised import Plan

AUGMENTATION = Augmentation(operations=("crop", "flip"))


def labelled_batches(
    store: ImageStore, labels: Tensor, plan: Plan, image_size: int, *, seed: int, first: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches from step `first` on: views (B, 3, S, S) float32 in [0, 1], channels_last, and labels (B,) int64.

    `labels`, (N,) on the CPU, are those of the store's images; both results are on the store's device. What an epoch's
    batches leave over, up to B - 1 images of its random order, sits it out.
    """
    for step in range(first, plan.steps):
        epoch, number = divmod(step, plan.steps_per_epoch)
        if number == 0 or step == first:
            order = epoch_order(len(store), seed=seed, epoch=epoch)
        chosen = order[number * plan.batch_size :][: plan.batch_size]  # (B,)
        heights, widths = store.heights[chosen], store.widths[chosen]
        crops = random_crops(AUGMENTATION, heights, widths, image_size, seed=seed, step=step)
        x = cut_out(store.batch(chosen), crops.to(store.device), image_size)  # (B, 3, S, S)
        yield x.contiguous(memory_format=torch.channels_last), send(labels[chosen], store.device)
