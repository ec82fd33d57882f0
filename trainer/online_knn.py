"""A kNN probe of h while the encoder trains, so that one sees whether it learns what labels ask for.

Legend: N training images with a label, of which B form the bank and Q ask it; C size of h.

Bank and queries are training images alone: whoever stops or tunes a run by this figure has not looked at its test set.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.config import KnnProbeRecipe, PretrainRecipe
from models.probing import HELD_OUT_FRACTION, knn_obstacle
from models.simclr import SimCLR
from trainer.pack import NO_LABEL, Pack
from trainer.probes.features import BATCH_SIZE, FrozenModel
from trainer.probes.knn import vote
from trainer.probes.splits import TEST_SEED, stratified
from trainer.run import RunError

MAX_BANK, MAX_QUERIES = 4000, 1000  # images of 224 pixels take a core about 3 ms each before the encoder sees them
PROBE = KnnProbeRecipe()


@dataclass(frozen=True)
class OnlineKnn:
    """Which images ask which: a fifth of each class's training images, and the others."""

    pack: Pack
    recipe: PretrainRecipe
    bank: NDArray[np.int64]  # (B,) positions in the pack
    queries: NDArray[np.int64]  # (Q,)

    @classmethod
    def of(cls, pack: Pack, recipe: PretrainRecipe) -> Self:
        """Raises RunError (`too_few_labels`) if no two classes have two labelled training images."""
        train = pack.split("train")
        train = train[pack.labels[train] != NO_LABEL]
        if reason := knn_obstacle(pack.classes, np.bincount(pack.labels[train], minlength=len(pack.classes)).tolist()):
            raise RunError("too_few_labels", reason)
        asks = stratified(pack.labels[train], HELD_OUT_FRACTION, seed=TEST_SEED)
        return cls(pack, recipe, _some(train[~asks], MAX_BANK), _some(train[asks], MAX_QUERIES))

    def is_due(self, steps_done: int, *, steps: int, steps_per_epoch: int) -> bool:
        """Whether the epochs that the recipe waits for are over, or all are."""
        assert self.recipe.knn_every_epochs is not None
        return steps_done % (self.recipe.knn_every_epochs * steps_per_epoch) == 0 or steps_done == steps

    def top1(self, model: SimCLR) -> float:
        """The share of the queries whose neighbours in h vote for their class; the model trains on as it was."""
        model.eval()
        with torch.compiler.set_stance("force_eager"):  # else it compiles this too
            bank, queries = (self._h(model, positions) for positions in (self.bank, self.queries))  # (B, C), (Q, C)
        model.train()
        labels = [torch.from_numpy(self.pack.labels[p]).to(bank.device, torch.int64) for p in (self.bank, self.queries)]
        k, temperature = min(PROBE.k, len(bank)), PROBE.temperature
        num_classes = len(self.pack.classes)
        votes = vote(queries, bank, labels[0], num_classes=num_classes, k=k, temperature=temperature)  # (Q, K)
        return float((votes.argmax(dim=1) == labels[1]).double().mean())

    def _h(self, model: SimCLR, positions: NDArray[np.int64]) -> Tensor:
        frozen = FrozenModel(model, self.recipe, next(model.parameters()).device)
        batches = (positions[start : start + BATCH_SIZE] for start in range(0, len(positions), BATCH_SIZE))
        return torch.cat([frozen.outputs(frozen.inputs(self.pack, batch), ["h"])["h"] for batch in batches])


def _some(positions: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """At most `most` of them, the same in every run of a data set."""
    return np.sort(np.random.default_rng(TEST_SEED).permutation(positions)[:most])
