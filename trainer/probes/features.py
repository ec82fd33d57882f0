"""Frozen features: h of the images that a probe learns from and is scored on.

Legend: M images, S image side, D size of h.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.config import Preprocessing
from models.export import load_model
from models.simclr import SimCLR
from trainer.data import model_inputs
from trainer.pack import Pack
from trainer.probes.progress import StageProgress
from trainer.probes.splits import TestSplit, probe_splits
from trainer.run import RunFolder

BATCH_SIZE = 128


@dataclass(frozen=True)
class Features:
    """h and the class of M images, on the probe's device."""

    h: Tensor  # (M, D) float32
    labels: Tensor  # (M,) int64, positions in ProbeData.classes

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class ProbeData:
    """What a probe sees of a model and a data set."""

    train: Features
    test: Features
    classes: tuple[str, ...]  # all of the data set's; some may have no images here
    test_split: TestSplit


def probe_data(run: RunFolder) -> ProbeData:
    """The features of the run folder's data set under its model.

    Raises RunError (`too_few_labels`) if the data set can't be probed.
    """
    pack = Pack.open(run.dataset)
    splits = probe_splits(pack)
    model, recipe = load_model(run.model)
    device = torch.device(run.spec().device)
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub
    progress = StageProgress(run, "features", len(splits.train) + len(splits.test))

    def features(positions: NDArray[np.int64]) -> Features:
        h = extract(model, pack, positions, recipe.preprocessing, device, progress)
        return Features(h, torch.from_numpy(pack.labels[positions]).to(device, torch.int64))

    return ProbeData(features(splits.train), features(splits.test), pack.classes, splits.test_split)


def extract(
    model: SimCLR,
    pack: Pack,
    positions: NDArray[np.int64],
    preprocessing: Preprocessing,
    device: torch.device,
    progress: StageProgress,
) -> Tensor:
    """The images' h, (M, D) float32 on `device`, where the model is, in eval mode; it stays as it is.

    Their `positions` (M,) are those in the pack.
    """
    batches = []
    for start in range(0, len(positions), BATCH_SIZE):
        batch = positions[start : start + BATCH_SIZE]
        images = torch.from_numpy(model_inputs(pack, batch, preprocessing)).to(device)  # (B, S, S, 3) uint8
        with torch.inference_mode():
            # The axes move without a copy: an image as it is decoded is channels_last in memory.
            batches.append(model.encoder(images.permute(0, 3, 1, 2).float() / 255))  # (B, D)
        progress.advance(len(batch))
    return torch.cat(batches)  # (M, D)
