"""The linear probe: multinomial logistic regression on frozen h (Section 2.3), by L-BFGS (B.8) or by SGD (B.6).

Legend: N training images, D size of h, K classes with training images.
"""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from models.classifier import HEAD_FILE
from models.config import LinearProbeRecipe, LogisticFit
from trainer.probes.features import Features, FrozenModel, layer_data
from trainer.probes.linear_scores import Fitted, linear_scores, save_head
from trainer.probes.linear_sgd import by_sgd
from trainer.probes.logistic import LinearHead, Spectrum, fit
from trainer.probes.progress import StageProgress
from trainer.probes.splits import stratified
from trainer.run import RunFolder

# Gradient of J in the preconditioned coordinates, where every curvature is near 1. On 128 features and on raw pixels of
# 5,000 images, 1e-4 moved no validation accuracy by more than 0.003 from that at 1e-5, in half the time.
PATH_TOLERANCE = 1e-4
FINAL_TOLERANCE = 1e-6
PATIENCE = 3  # clearly worse values after which weaker ones aren't tried


def run_linear_probe(run: RunFolder) -> dict[str, Any]:
    """Fit a linear classifier on the training split's h and score it on the test split; the job's result.

    The test split is read once, at the end. The classifier is left in the output.
    The result: layer, protocol, num_train, seconds, what the protocol tells of its fit, and `linear_scores`.
    Raises RunError (`too_few_labels`, `unknown_layer`).
    """
    started = time.monotonic()
    recipe = LinearProbeRecipe.model_validate(run.spec().recipe)
    fitted = PROTOCOLS[recipe.protocol](run, recipe, FrozenModel.load(run, [recipe.layer]))
    save_head(fitted, recipe.layer, run.output / HEAD_FILE)
    return {
        "layer": recipe.layer,
        "protocol": recipe.protocol,
        **fitted.about,
        **linear_scores(fitted, seed=recipe.seed),
        "seconds": time.monotonic() - started,
    }


def by_lbfgs(run: RunFolder, recipe: LinearProbeRecipe, model: FrozenModel) -> Fitted:
    """The head of the l2 that is best on a held-out part of the training split, fitted on all of that."""
    [(_, data)] = layer_data(run, model, [recipe.layer])
    head, seen, choice = train_head(data.train, recipe, run)
    about = {**choice._asdict(), "num_train": len(data.train)}
    return Fitted(head, seen, data.classes, data.test, data.test_split, about)


PROTOCOLS: Mapping[str, Callable[[RunFolder, LinearProbeRecipe, FrozenModel], Fitted]] = {
    "lbfgs": by_lbfgs,
    "sgd": by_sgd,
}


class Choice(NamedTuple):
    """The l2 that was picked, and the accuracy on the held-out training images for which it was."""

    l2: float
    held_out_top1: float


def train_head(
    train: Features, recipe: LogisticFit, run: RunFolder, stage: str = "fit"
) -> tuple[LinearHead, Tensor, Choice]:
    """The head, the classes (K,) that its rows stand for, and its l2.

    Its random numbers are the recipe's alone, whatever was trained before. `stage` is what progress is told of.
    """
    torch.manual_seed(recipe.seed)
    seen, y = torch.unique(train.labels, return_inverse=True)  # (K,), (N,)
    mean = train.h.mean(dim=0)  # (D,); the bias takes it up again
    h = train.h - mean
    spectrum = Spectrum.of(h)
    choice, start = pick_l2(h, y, spectrum, recipe, StageProgress(run, stage, recipe.num_l2_values))
    head, converged = fit(
        h, y, choice.l2, spectrum, start, tolerance=FINAL_TOLERANCE, max_iterations=recipe.max_iterations
    )
    if not converged:
        run.emit("warning", code="not_converged", message=f"raise recipe.max_iterations ({recipe.max_iterations})")
    return LinearHead(head.weight, head.bias - head.weight @ mean), seen, choice


def pick_l2(
    h: Tensor, y: Tensor, spectrum: Spectrum, recipe: LogisticFit, progress: StageProgress
) -> tuple[Choice, LinearHead]:
    """The l2 of the highest accuracy on the held-out part of h (N, D), the strongest among equals, and its head.

    The values are tried from strong to weak, each from the head before. Weaker ones are left out once PATIENCE values
    in a row were worse than the best by more than a standard error while their cross-entropy rose too: they overfit.
    That some still weaker value would have been better yet is possible, and isn't looked for.
    """
    held_out = torch.from_numpy(stratified(y.cpu().numpy(), recipe.held_out_fraction, seed=recipe.seed)).to(h.device)
    h_fit, y_fit, h_val, y_val = h[~held_out], y[~held_out], h[held_out], y[held_out]
    num_classes = int(y.max()) + 1
    head = LinearHead(h.new_zeros(num_classes, h.shape[1]), h.new_zeros(num_classes))
    best_l2, best_head, best, least, num_worse = recipe.l2_max, head, -1.0, math.inf, 0
    for l2 in np.geomspace(recipe.l2_max, recipe.l2_min, recipe.num_l2_values).tolist():
        head, _ = fit(h_fit, y_fit, l2, spectrum, head, tolerance=PATH_TOLERANCE, max_iterations=recipe.max_iterations)
        progress.advance()
        logits = head.logits(h_val)
        score = float((logits.argmax(dim=1) == y_val).double().mean())
        loss = float(cross_entropy(logits, y_val))
        if score > best:
            best_l2, best_head, best = l2, head, score
        worse = score < best - math.sqrt(best * (1 - best) / len(y_val)) and loss > least
        num_worse = num_worse + 1 if worse else 0
        least = min(least, loss)
        if num_worse == PATIENCE:
            break
    progress.finish()
    return Choice(best_l2, best), best_head
