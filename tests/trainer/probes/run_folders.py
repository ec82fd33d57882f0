"""Run folders for probes: a small packed data set and an exported network, written as the real ones are."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from models.config import PretrainRecipe
from models.embedder import FORMAT_VERSION
from models.preprocess import PREPROCESSING_VERSION
from models.simclr import SimCLR
from trainer.pack import PackWriter
from trainer.run import RunFolder, RunSpec

SIDE = 8

PIXELS = PretrainRecipe.model_validate(
    {
        "preprocessing": {"image_size": SIDE},
        "encoder": {"name": "pixels"},
        "head": {"num_layers": 0},
        "schedule": {"epochs": 0, "warmup_epochs": 0},
    }
)


def noisy_images(labels: Sequence[int], *, noise: float, glare: float = 0.0, seed: int) -> NDArray[np.uint8]:
    """One random picture a class, under a random vertical gradient a channel and noise, (M, SIDE, SIDE, 3).

    `noise` and `glare` are standard deviations. Noise is what strong regularisation helps against, glare what it fails
    at: the direction of the largest variance says nothing of the class.
    """
    pictures = np.random.default_rng(0).uniform(80, 176, (max(labels) + 1, SIDE, SIDE, 3))
    generator = np.random.default_rng(seed)
    noises = generator.normal(0, noise, (len(labels), SIDE, SIDE, 3))
    gradients = generator.normal(0, glare, (len(labels), 1, 1, 3)) * np.linspace(-1, 1, SIDE)[:, None, None]
    return (pictures[list(labels)] + noises + gradients).clip(0, 255).astype(np.uint8)


def write_pack(
    folder: Path, images: NDArray[np.uint8], labels: Sequence[int], splits: Sequence[str], classes: list[str]
) -> None:
    writer = PackWriter(folder, storage_side=256, preprocessing_version=PREPROCESSING_VERSION)
    for image, label, split in zip(images, labels, splits, strict=True):
        writer.add(image, label=label, split=split, sha256=bytes(32))
    writer.close(classes)


def write_model(folder: Path, model: SimCLR, recipe: PretrainRecipe) -> None:
    torch.save(model.state_dict(), folder / "encoder.pt")
    description = {"format_version": FORMAT_VERSION, "recipe": recipe.model_dump(mode="json")}
    (folder / "model.json").write_text(json.dumps(description))


def probe_run(
    path: Path,
    kind: Literal["finetune", "linear_probe", "knn_probe", "layer_sweep", "transform_probe"],
    recipe: dict[str, Any],
    *,
    images: NDArray[np.uint8],
    labels: Sequence[int],
    splits: Sequence[str],
    classes: list[str],
    model: PretrainRecipe = PIXELS,
) -> RunFolder:
    """A run folder whose model is by default the `pixels` baseline, so that h is the image; any other is untrained."""
    run = RunFolder(path)
    run.create(RunSpec(kind=kind, recipe=recipe))
    write_pack(run.dataset, images, labels, splits, classes)
    write_model(run.model, untrained(model), model)
    return run


def untrained(recipe: PretrainRecipe) -> SimCLR:
    """A network whose batch norm has seen data; the same every time."""
    torch.manual_seed(0)
    model = SimCLR(recipe)
    model(torch.rand(8, 3, recipe.preprocessing.image_size, recipe.preprocessing.image_size))
    return model.eval()


def pixels_h(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """What the `pixels` encoder makes of images (M, S, S, 3): (M, 3 S S)."""
    return images.transpose(0, 3, 1, 2).reshape(len(images), -1) / 255.0


def events(run: RunFolder) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run.events.read_text().splitlines()]
