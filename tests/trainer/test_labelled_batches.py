"""Batches with labels: which images, which labels, and which view."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.trainer.probes.run_folders import write_pack
from trainer.augment import sample_parameters, two_views
from trainer.data import ImageStore, epoch_order
from trainer.labelled_batches import AUGMENTATION, labelled_batches
from trainer.pack import Pack
from trainer.supervised import Plan

NUM_IMAGES, SIZE = 10, 8
LABELS = torch.arange(NUM_IMAGES)
PLAN = Plan.of(NUM_IMAGES, epochs=3, batch_size=4, rate=1.0)


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    """Images of one value each, ten times their label; then the same again, as images of noise."""
    flat = [np.full((12, 10 + i, 3), 10 * i, np.uint8) for i in range(NUM_IMAGES)]
    write_pack(tmp_path, flat, [0] * NUM_IMAGES, ["train"] * NUM_IMAGES, ["a"])
    return ImageStore(Pack.open(tmp_path), np.arange(NUM_IMAGES), torch.device("cpu"))


def test_an_image_keeps_its_label(store: ImageStore) -> None:
    """Each view has its own image's pixels, an epoch has each image once at most, and the rest sits it out."""
    batches = list(labelled_batches(store, LABELS, PLAN, SIZE, seed=0))
    assert len(batches) == PLAN.steps == 6
    for x, y in batches:
        assert (x.shape, x.is_contiguous(memory_format=torch.channels_last)) == ((4, 3, SIZE, SIZE), True)
        torch.testing.assert_close(x, (y / 25.5)[:, None, None, None].expand_as(x))
    epochs = torch.stack([y for _, y in batches]).view(3, 8)
    assert all(len(set(epoch.tolist())) == 8 for epoch in epochs)
    assert not torch.equal(epochs[0], epochs[1])


def test_a_view_is_the_first_of_pretraining(tmp_path: Path) -> None:
    """Crop and flip are those of x1 by the same two operations, bit for bit."""
    noise = [np.random.default_rng(i).integers(0, 256, (12, 10, 3), np.uint8) for i in range(NUM_IMAGES)]
    write_pack(tmp_path, noise, [0] * NUM_IMAGES, ["train"] * NUM_IMAGES, ["a"])
    noisy = ImageStore(Pack.open(tmp_path), np.arange(NUM_IMAGES), torch.device("cpu"))
    *_, (x, _) = labelled_batches(noisy, LABELS, PLAN, SIZE, seed=7)
    chosen = epoch_order(NUM_IMAGES, seed=7, epoch=2)[4:8]
    batch = noisy.batch(chosen)
    parameters = sample_parameters(AUGMENTATION, batch.heights, batch.widths, SIZE, seed=7, step=5)
    assert parameters.start.flip[0].any()
    assert torch.equal(x, two_views(batch, parameters)[:4])


def test_a_run_can_start_at_any_step(store: ImageStore) -> None:
    """From a step in the middle of an epoch on, the batches are those of the whole run."""
    whole = list(labelled_batches(store, LABELS, PLAN, SIZE, seed=3))
    for (x, y), (x_again, y_again) in zip(
        whole[3:], labelled_batches(store, LABELS, PLAN, SIZE, seed=3, first=3), strict=True
    ):
        assert torch.equal(x, x_again)
        assert torch.equal(y, y_again)
