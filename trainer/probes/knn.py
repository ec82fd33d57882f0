"""The kNN probe: a weighted vote of the nearest training images (Wu et al., arXiv 1805.01978).

Legend: N training images, M test images, D size of h, K classes, B test images a block.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from models.config import KnnProbeRecipe
from trainer.probes.features import ProbeData, probe_data
from trainer.probes.progress import StageProgress
from trainer.probes.scores import accuracy, accuracy_per_class, confusion_matrix
from trainer.run import RunFolder

BLOCK_ELEMENTS = 2**24  # of a block of similarities: 64 MiB, however many images there are


def run_knn_probe(run: RunFolder) -> dict[str, Any]:
    """Score the vote of the training split's nearest neighbours on the test split; the job's result.

    The result: layer, top1, k (at most the training images), temperature, num_train, num_test, test_split,
    per_class {class: accuracy}. Raises RunError (`too_few_labels`, `unknown_layer`).
    """
    recipe = KnnProbeRecipe.model_validate(run.spec().recipe)
    data = probe_data(run, recipe.layer)
    k = min(recipe.k, len(data.train))
    confusion = knn_confusion(data, k=k, temperature=recipe.temperature, run=run, stage="neighbors")
    return {
        "layer": recipe.layer,
        "top1": accuracy(confusion),
        "k": k,
        "temperature": recipe.temperature,
        "num_train": len(data.train),
        "num_test": len(data.test),
        "test_split": data.test_split,
        "per_class": accuracy_per_class(confusion, data.classes),
    }


def knn_confusion(data: ProbeData, *, k: int, temperature: float, run: RunFolder, stage: str) -> NDArray[np.int64]:
    """Counts (K, K) of the test images, by class and by what their k nearest training images vote for."""
    progress = StageProgress(run, stage, len(data.test))
    votes = vote(
        data.test.h,
        data.train.h,
        data.train.labels,
        num_classes=len(data.classes),
        k=k,
        temperature=temperature,
        advance=progress.advance,
    )
    predicted = votes.argmax(dim=1)  # (M,)
    return confusion_matrix(data.test.labels.cpu().numpy(), predicted.cpu().numpy(), len(data.classes))


def vote(
    queries: Tensor,
    h: Tensor,
    labels: Tensor,
    *,
    num_classes: int,
    k: int,
    temperature: float,
    advance: Callable[[int], None] = lambda _: None,
) -> Tensor:
    """The votes (M, K) of the k most similar of h (N, D) with labels (N,) for each of the queries (M, D).

    A neighbour of cosine similarity s votes exp(s / temperature) for its class. A row is scaled by its largest vote,
    which changes no order and lets no temperature overflow. Of images that are equally similar, any may be the k-th;
    classes with equal votes are ranked by their position (argmax).
    """
    queries, h = normalize(queries), normalize(h)
    votes = []
    for block in torch.split(queries, max(1, BLOCK_ELEMENTS // len(h))):
        similarity, neighbors = (block @ h.T).topk(k)  # (B, k), most similar first
        weights = ((similarity - similarity[:, :1]) / temperature).exp()  # (B, k)
        votes.append(weights.new_zeros(len(block), num_classes).scatter_add_(1, labels[neighbors], weights))
        advance(len(block))
    return torch.cat(votes)  # (M, K)
