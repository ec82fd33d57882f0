"""Frozen features: what a model's layers make of the images that a probe learns from and is scored on.

Legend: M images, B of them a batch, S image side, D size of a layer.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.config import PretrainRecipe
from models.export import load_model
from models.layers import unknown_layer
from models.simclr import SimCLR
from trainer.data import model_inputs
from trainer.pack import Pack
from trainer.probes.progress import StageProgress
from trainer.probes.splits import TestSplit, probe_splits
from trainer.run import RunError, RunFolder

BATCH_SIZE = 128


@dataclass(frozen=True)
class Features:
    """A layer's output and the class of M images, on the probe's device."""

    h: Tensor  # (M, D) float32
    labels: Tensor  # (M,) int64, positions in ProbeData.classes

    @classmethod
    def of(cls, h: Tensor, pack: Pack, positions: NDArray[np.int64], device: torch.device) -> Self:
        """What a layer makes of the images at `positions`, (M,), in the pack, on the device."""
        return cls(h.to(device), torch.from_numpy(pack.labels[positions]).to(device, torch.int64))

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class ProbeData:
    """What a probe sees of a layer of a model and a data set."""

    train: Features
    test: Features
    classes: tuple[str, ...]  # all of the data set's; some may have no images here
    test_split: TestSplit


@dataclass(frozen=True)
class FrozenModel:
    """The run folder's model in eval mode on the probe's device; it stays as it is."""

    model: SimCLR
    recipe: PretrainRecipe
    device: torch.device

    @classmethod
    def load(cls, run: RunFolder, layers: Sequence[str]) -> Self:
        """Raises RunError (`unknown_layer`) unless the model has these layers."""
        model, recipe = load_model(run.model)
        if reason := unknown_layer(recipe, layers):
            raise RunError("unknown_layer", reason)
        device = torch.device(run.spec().device)
        model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub
        return cls(model, recipe, device)

    def inputs(self, pack: Pack, positions: NDArray[np.int64]) -> Tensor:
        """The images at `positions`, (B,), as they are served: (B, 3, S, S) float32 in [0, 1] on the device."""
        images = torch.from_numpy(model_inputs(pack, positions, self.recipe.preprocessing)).to(self.device)
        # The axes move without a copy: an image as it is decoded is channels_last in memory.
        return images.permute(0, 3, 1, 2).float() / 255  # (B, 3, S, S)

    @torch.inference_mode()
    def outputs(self, x: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """(B, 3, S, S) float32 in [0, 1] -> each layer's pooled output, (B, D) float32."""
        return self.model.layers(x, layers)


def probe_data(run: RunFolder, layer: str) -> ProbeData:
    """The features of the run folder's data set in one layer of its model.

    Raises RunError: `too_few_labels` if the data set can't be probed, or `unknown_layer`.
    """
    [(_, data)] = layer_data(run, FrozenModel.load(run, [layer]), [layer])
    return data


def layer_data(run: RunFolder, model: FrozenModel, layers: Sequence[str]) -> Iterator[tuple[str, ProbeData]]:
    """Each layer, in the model's order, with its features, all made in one pass over the images.

    They wait in the host's memory, N images and the layers' sizes D_l take 4 N sum(D_l) bytes, and are on the device
    one layer at a time. Raises RunError (`too_few_labels`).
    """
    pack = Pack.open(run.dataset)
    splits = probe_splits(pack)
    progress = StageProgress(run, "features", len(splits.train) + len(splits.test))
    train, test = (extract(model, pack, positions, layers, progress) for positions in (splits.train, splits.test))

    for layer in list(train):
        of_train = Features.of(train.pop(layer), pack, splits.train, model.device)
        of_test = Features.of(test.pop(layer), pack, splits.test, model.device)
        yield layer, ProbeData(of_train, of_test, pack.classes, splits.test_split)


def features_of(run: RunFolder, model: FrozenModel, pack: Pack, positions: NDArray[np.int64], layer: str) -> Features:
    """One layer's features of the images at `positions`, (M,), as they are served: by their centre crop."""
    progress = StageProgress(run, "features", len(positions))
    return Features.of(extract(model, pack, positions, [layer], progress)[layer], pack, positions, model.device)


def extract(
    model: FrozenModel, pack: Pack, positions: NDArray[np.int64], layers: Sequence[str], progress: StageProgress
) -> dict[str, Tensor]:
    """What each layer makes of the images at `positions`, (M,), in the pack: (M, D) float32 each, on the host."""
    batches: dict[str, list[Tensor]] = {}
    for start in range(0, len(positions), BATCH_SIZE):
        batch = positions[start : start + BATCH_SIZE]
        for layer, output in model.outputs(model.inputs(pack, batch), layers).items():
            batches.setdefault(layer, []).append(output.cpu())  # (B, D)
        progress.advance(len(batch))
    return {layer: torch.cat(batches.pop(layer)) for layer in list(batches)}  # (M, D); no layer is there twice
