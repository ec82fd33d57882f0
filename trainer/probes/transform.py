"""The transform probe: what h and z know of the transformation that an image went through (Section 4.2, Table 3).

Legend: M images, B of them a batch, S image side, D size of a layer, K alternatives of a transformation.

Ours differs from the paper's in four ways. Its classifiers are multilayer perceptrons, ours linear. It adds rotation,
noise and Sobel to the views during pretraining, where ours probes any model: one that trained with the transformation
has h keep and z drop it, which is the point. Its z has h's 2048 values. And its alternatives of colour are 80 to 20,
as grayscale's probability in the views, where ours are as many each: chance is 50, 25, 50 and 50%.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.config import Transformation, TransformProbeRecipe
from trainer.augment.grayscale import Grayscale
from trainer.augment.noise import WORD, Noise
from trainer.augment.operation import Operation
from trainer.augment.rotation import Rotation
from trainer.augment.sobel import Sobel
from trainer.pack import Pack
from trainer.probes.features import BATCH_SIZE, Features, FrozenModel
from trainer.probes.linear import train_head
from trainer.probes.linear_scores import linear_confusion
from trainer.probes.progress import StageProgress
from trainer.probes.scores import accuracy, confidence_interval
from trainer.probes.splits import ProbeSplits, image_splits
from trainer.run import RunFolder

TRANSFORM_STREAM = 2  # sets these random numbers apart from others drawn with the recipe's seed
DEFAULT_LAYERS = ("h", "z")

ALTERNATIVES: Mapping[Transformation, int] = {"color": 2, "rotation": 4, "noise": 2, "sobel": 2}  # K
MOST_ALTERNATIVES = max(ALTERNATIVES.values())

PAPER: Mapping[Transformation, Mapping[str, float]] = {  # arXiv 2002.05709, Table 3
    "color": {"chance": 0.80, "h": 0.993, "z": 0.974},
    "rotation": {"chance": 0.25, "h": 0.676, "z": 0.256},
    "noise": {"chance": 0.50, "h": 0.995, "z": 0.596},
    "sobel": {"chance": 0.50, "h": 0.966, "z": 0.563},
}


@dataclass(frozen=True)
class Transformed:
    """Images and which alternative each goes through."""

    positions: NDArray[np.int64]  # (M,), in the pack
    alternatives: Tensor  # (M,) int64, 0 to K - 1, each as often; 0 leaves the image as it is
    keys: Tensor  # (M, 2) int64 in [0, 2^32): of the noise

    def __len__(self) -> int:
        return len(self.positions)


def run_transform_probe(run: RunFolder) -> dict[str, Any]:
    """Read each transformation off each layer by a linear classifier; the job's result.

    An image goes through one alternative of a transformation; those that are learned from are none of those that score.
    l2 is picked on a held-out part of the images to learn from. Labels of the data set aren't read.
    The result: rows, a list of transformation, layer, accuracy, confidence_interval [low, high], chance, l2, paper (its
    accuracy in h or z, else null) and paper_chance; num_train, num_test, test_split, seconds.
    Raises RunError (`too_few_images`, `unknown_layer`).
    """
    started = time.monotonic()
    recipe = TransformProbeRecipe.model_validate(run.spec().recipe)
    pack = Pack.open(run.dataset)
    splits = image_splits(pack)
    model = FrozenModel.load(run, recipe.layers or ())
    layers = recipe.layers or [layer for layer in DEFAULT_LAYERS if layer in model.model.layer_names]
    rows = []
    for name in recipe.transformations:
        train, test = draw(splits, name, recipe)
        progress = StageProgress(run, f"features {name}", len(train) + len(test))
        of_train, of_test = (features(model, pack, images, name, recipe, layers, progress) for images in (train, test))
        rows += [_row(name, layer, of_train[layer], of_test[layer], recipe, run) for layer in of_train]
    return {
        "rows": rows,
        "num_train": len(train),
        "num_test": len(test),
        "test_split": splits.test_split,
        "seconds": time.monotonic() - started,
    }


def draw(
    splits: ProbeSplits, transformation: Transformation, recipe: TransformProbeRecipe
) -> tuple[Transformed, Transformed]:
    """The images to learn from and those to be scored on: the same for all transformations, in other alternatives."""
    pick = np.random.default_rng((TRANSFORM_STREAM, recipe.seed))
    train = _some(splits.train, recipe.num_train_images, pick)
    test = _some(splits.test, recipe.num_test_images, pick)
    K, number = ALTERNATIVES[transformation], list(ALTERNATIVES).index(transformation)
    generator = np.random.default_rng((TRANSFORM_STREAM, recipe.seed, number))
    return _assigned(train, K, generator), _assigned(test, K, generator)


def _some(positions: NDArray[np.int64], most: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Some of the images at random, so many that every transformation's alternatives get equal parts of them."""
    number = min(most, len(positions))
    return generator.permutation(positions)[: number - number % MOST_ALTERNATIVES]


def _assigned(positions: NDArray[np.int64], num_alternatives: int, generator: np.random.Generator) -> Transformed:
    alternatives = generator.permutation(np.arange(len(positions)) % num_alternatives)
    keys = generator.integers(0, WORD, (len(positions), 2))
    return Transformed(positions, torch.from_numpy(alternatives), torch.from_numpy(keys))


def operation(transformation: Transformation, images: Transformed, sigma: float) -> Operation:
    """What takes each of M images through its alternative, of one view each."""
    alternatives = images.alternatives[None]  # (1, M)
    match transformation:
        case "color":
            return Grayscale(alternatives == 1)
        case "rotation":
            return Rotation(alternatives)
        case "noise":
            return Noise(sigma * alternatives.float(), images.keys[None])
        case "sobel":
            return Sobel(alternatives == 1)


def features(
    model: FrozenModel,
    pack: Pack,
    images: Transformed,
    transformation: Transformation,
    recipe: TransformProbeRecipe,
    layers: Sequence[str],
    progress: StageProgress,
) -> dict[str, Features]:
    """What each layer makes of the transformed images, on the model's device; labels are the alternatives."""
    transform = operation(transformation, images, recipe.noise_sigma)
    batches: dict[str, list[Tensor]] = {}
    for rows in torch.split(torch.arange(len(images)), BATCH_SIZE):
        planes = model.inputs(pack, images.positions[rows.numpy()]).transpose(0, 1).contiguous()  # (3, B, S, S)
        x = transform.rows(rows).to(model.device)(planes).transpose(0, 1)  # (B, 3, S, S)
        x = x.contiguous(memory_format=torch.channels_last)
        for layer, output in model.outputs(x, layers).items():
            batches.setdefault(layer, []).append(output)  # (B, D)
        progress.advance(len(rows))
    labels = images.alternatives.to(model.device)
    return {layer: Features(torch.cat(outputs), labels) for layer, outputs in batches.items()}


def _row(
    transformation: Transformation,
    layer: str,
    train: Features,
    test: Features,
    recipe: TransformProbeRecipe,
    run: RunFolder,
) -> dict[str, Any]:
    num_alternatives = ALTERNATIVES[transformation]
    head, seen, choice = train_head(train, recipe, run, f"fit {transformation} {layer}")
    confusion = linear_confusion(head, seen, test, num_alternatives)
    return {
        "transformation": transformation,
        "layer": layer,
        "accuracy": accuracy(confusion),
        "confidence_interval": confidence_interval(confusion, seed=recipe.seed),
        "chance": 1 / num_alternatives,
        "l2": choice.l2,
        "paper": PAPER[transformation].get(layer),
        "paper_chance": PAPER[transformation]["chance"],
    }
