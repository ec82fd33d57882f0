"""The linear probe by SGD on random crops, as the paper evaluates on ImageNet (Section 2.3, B.6).

Legend: N training images, B of them a batch, S image side, D size of h, K classes with training images.
"""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from models.config import LinearProbeRecipe
from trainer.data import ImageStore
from trainer.labelled_batches import labelled_batches
from trainer.pack import Pack
from trainer.probes.features import BATCH_SIZE, FrozenModel, features_of
from trainer.probes.linear_scores import Fitted
from trainer.probes.logistic import LinearHead, loss_and_gradient
from trainer.probes.progress import StageProgress
from trainer.probes.splits import probe_splits
from trainer.run import RunFolder
from trainer.supervised import Plan, nesterov


def by_sgd(run: RunFolder, recipe: LinearProbeRecipe, model: FrozenModel) -> Fitted:
    """The head after the recipe's last epoch; nothing is picked, so no image is held out.

    The model is frozen in eval mode: each crop passes it without a gradient, and its batch norm stays as it is.
    Raises RunError (`too_few_labels`).
    """
    pack = Pack.open(run.dataset)
    splits = probe_splits(pack)
    seen, y = torch.unique(torch.from_numpy(pack.labels[splits.train]), return_inverse=True)  # (K,), (N,)
    sgd = recipe.sgd
    plan = Plan.of(len(y), epochs=sgd.epochs, batch_size=sgd.batch_size, rate=sgd.learning_rate)
    store = ImageStore(pack, splits.train, model.device)
    batches = labelled_batches(store, y, plan, model.recipe.preprocessing.image_size, seed=recipe.seed)
    D = model.outputs(model.inputs(pack, splits.train[:1]), [recipe.layer])[recipe.layer].shape[1]
    start = LinearHead(torch.zeros(len(seen), D, device=model.device), torch.zeros(len(seen), device=model.device))
    progress = StageProgress(run, "fit", plan.steps)
    head, loss = fit_by_sgd(_outputs(model, recipe.layer, batches), start, plan, progress)
    return Fitted(
        head,
        seen.to(model.device),
        pack.classes,
        features_of(run, model, pack, splits.test, recipe.layer),
        splits.test_split,
        {"num_train": len(y), "batch_size": plan.batch_size, "learning_rate": plan.peak, "loss": loss},
    )


def _outputs(
    model: FrozenModel, layer: str, batches: Iterable[tuple[Tensor, Tensor]]
) -> Iterator[tuple[Tensor, Tensor]]:
    """What the layer makes of each batch's views, (B, D), with their labels; a large batch passes it in parts."""
    for x, y in batches:
        yield torch.cat([model.outputs(part, [layer])[layer] for part in torch.split(x, BATCH_SIZE)]), y


def fit_by_sgd(
    batches: Iterable[tuple[Tensor, Tensor]], start: LinearHead, plan: Plan, progress: StageProgress
) -> tuple[LinearHead, float]:
    """The head after a step on each batch, h (B, D) and y (B,); and the last batch's cross-entropy before its step.

    `start` is overwritten.
    """
    W, b = start.weight, start.bias
    optimizer = nesterov([W, b])
    loss = W.new_zeros(())
    for step, (h, y) in enumerate(batches):
        loss, W.grad, b.grad = loss_and_gradient(start, h, y, l2=0.0)
        optimizer.param_groups[0]["lr"] = plan.rate(step)
        optimizer.step()
        progress.advance()
    return start, float(loss)
