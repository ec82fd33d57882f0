"""The layer sweep: is h the layer to take, or the one before, or before that?

Legend: M test images, B of them a batch, S the views' side, D size of a layer.
"""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.config import LayerSweepRecipe
from trainer.augment import sample_parameters, two_views
from trainer.data import ImageStore
from trainer.pack import Pack
from trainer.probes.features import BATCH_SIZE, FrozenModel, ProbeData, layer_data
from trainer.probes.geometry import alignment, effective_rank, uniformity
from trainer.probes.knn import knn_confusion
from trainer.probes.linear import train_head
from trainer.probes.linear_scores import linear_confusion
from trainer.probes.progress import StageProgress
from trainer.probes.scores import accuracy, confidence_interval
from trainer.probes.splits import probe_splits
from trainer.run import RunError, RunFolder

MIN_TEST_IMAGES = 2  # uniformity is of pairs

Views = tuple[Tensor, Tensor]  # a layer's outputs for x1 and x2, (M, D) each, on the host


def run_layer_sweep(run: RunFolder) -> dict[str, Any]:
    """Probe every layer of the model, or those that the recipe lists; the job's result.

    All layers are read in one pass over the images. Each layer's l2 is picked on a held-out part of the training
    split, as the linear probe does; the test split only scores.
    The result: layers, in the model's order, a list of layer, size, linear_top1, confidence_interval [low, high] of it,
    l2, held_out_top1 (of the training images that picked l2: a layer may be chosen by it), knn_top1, effective_rank,
    alignment, uniformity; k (at most the training images), temperature, num_train, num_test, test_split,
    num_view_images, seconds. The effective rank is that of all test images, so at most num_test - 1.
    Raises RunError (`too_few_labels`, `unknown_layer`).
    """
    started = time.monotonic()
    recipe = LayerSweepRecipe.model_validate(run.spec().recipe)
    model = FrozenModel.load(run, recipe.layers or ())
    layers = recipe.layers or model.model.layer_names
    views = view_outputs(run, model, layers, recipe)
    rows = []
    for layer, data in layer_data(run, model, layers):
        rows.append({"layer": layer, **_scores(layer, data, recipe, run), **_geometry(data.test.h, views[layer])})
    return {
        "layers": rows,
        "k": min(recipe.k, len(data.train)),
        "temperature": recipe.temperature,
        "num_train": len(data.train),
        "num_test": len(data.test),
        "test_split": data.test_split,
        "num_view_images": len(views[layer][0]),
        "seconds": time.monotonic() - started,
    }


def view_outputs(
    run: RunFolder, model: FrozenModel, layers: Sequence[str], recipe: LayerSweepRecipe
) -> dict[str, Views]:
    """What each layer makes of two views of test images, drawn as the model's own recipe draws them to train on.

    The images are a random choice of the recipe's number, or all. Raises RunError (`too_few_labels`).
    """
    pack = Pack.open(run.dataset)
    positions = probe_splits(pack).test
    if len(positions) < MIN_TEST_IMAGES:
        raise RunError("too_few_labels", f"a layer sweep needs {MIN_TEST_IMAGES} labelled test images, not 1")
    chosen = np.random.default_rng(recipe.seed).permutation(positions)[: recipe.num_view_images]
    store = ImageStore(pack, chosen, model.device)
    progress = StageProgress(run, "views", len(chosen))
    halves: dict[str, tuple[list[Tensor], list[Tensor]]] = {layer: ([], []) for layer in layers}
    for step, indices in enumerate(torch.split(torch.arange(len(chosen)), BATCH_SIZE)):
        batch = store.batch(indices)
        size = model.recipe.preprocessing.image_size
        parameters = sample_parameters(
            model.recipe.augmentation, batch.heights, batch.widths, size, seed=recipe.seed, step=step
        )
        x = two_views(batch, parameters).contiguous(memory_format=torch.channels_last)  # (2B, 3, S, S)
        for layer, outputs in model.outputs(x, layers).items():
            for half, output in zip(halves[layer], outputs.cpu().chunk(2), strict=True):  # (B, D)
                half.append(output)
        progress.advance(len(indices))
    return {layer: (torch.cat(h1), torch.cat(h2)) for layer, (h1, h2) in halves.items()}


def _scores(layer: str, data: ProbeData, recipe: LayerSweepRecipe, run: RunFolder) -> dict[str, Any]:
    head, seen, choice = train_head(data.train, recipe, run, f"fit {layer}")
    linear = linear_confusion(head, seen, data.test, len(data.classes))
    k = min(recipe.k, len(data.train))
    knn = knn_confusion(data, k=k, temperature=recipe.temperature, run=run, stage=f"neighbors {layer}")
    return {
        "size": data.test.h.shape[1],
        "linear_top1": accuracy(linear),
        "confidence_interval": confidence_interval(linear, seed=recipe.seed),
        **choice._asdict(),
        "knn_top1": accuracy(knn),
    }


def _geometry(h: Tensor, views: Views) -> dict[str, float]:
    """Of the test images h (M, D), and of some of their views; the uniformity is the mean of x1's and x2's."""
    h1, h2 = (view.to(h.device) for view in views)
    return {
        "effective_rank": effective_rank(h),
        "alignment": alignment(h1, h2),
        "uniformity": (uniformity(h1) + uniformity(h2)) / 2,
    }
