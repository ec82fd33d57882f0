"""Fine-tuning (B.5): the encoder and a linear classifier on h, trained together on a part of the labels.

Legend: N labelled training images, B of them a batch, S image side, C size of h, K classes with training images.
"""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from models.classifier import HEAD_FILE
from models.config import ExportRecipe, PretrainRecipe
from models.export import load_model
from models.finetuning import FinetuneRecipe
from models.simclr import SimCLR
from trainer.checkpoint import load_newest_checkpoint, save_checkpoint
from trainer.data import ImageStore
from trainer.export import export
from trainer.labelled_batches import labelled_batches
from trainer.loop import Interrupted, with_storage_side
from trainer.pack import Pack
from trainer.probes.features import FrozenModel, features_of
from trainer.probes.linear_scores import Fitted, linear_scores, save_head
from trainer.probes.logistic import LinearHead
from trainer.probes.splits import ProbeSplits, labelled_part, probe_splits
from trainer.report import Report
from trainer.run import RunFolder
from trainer.step import at_least_float32, autocast
from trainer.supervised import Plan, nesterov

CHECKPOINT_SECONDS = 60
REMEDY = "lower recipe.learning_rate, and start again"


class Finetuned(nn.Module):
    """A pretrained network with a classifier on h that starts from zero; nothing here touches the head g."""

    def __init__(self, model: SimCLR, recipe: PretrainRecipe, num_classes: int, device: torch.device) -> None:
        super().__init__()
        self.recipe = recipe
        self.model = model
        self.classifier = nn.Linear(model.encoder.size, num_classes)
        nn.init.zeros_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)
        self.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, S, S) float32 in [0, 1] -> logits (B, K) float32; the encoder computes in its recipe's precision."""
        with autocast(x, self.recipe):
            h = self.model.encoder(x)  # (B, C)
        logits: Tensor = self.classifier(at_least_float32(h))  # (B, K)
        return logits


def finetune(run: RunFolder, should_stop: Callable[[], bool]) -> dict[str, Any]:
    """Train the run folder's model on by its recipe, from the newest checkpoint if there is one, and export it.

    The weights are those after the last epoch; the test split is read once, after that. In the output are the model's
    files, with the head g as it was, and the classifier. The result: layer, label_fraction, num_labels, num_train (the
    training images that could have a label), epochs, batch_size, learning_rate, steps, loss, images_per_second,
    `linear_scores`, and seconds of training over all attempts.
    Raises Interrupted when `should_stop()`, after a checkpoint; RunError (`too_few_labels`, `non_finite_loss`,
    `parity`).
    """
    recipe = FinetuneRecipe.model_validate(run.spec().recipe)
    pack = Pack.open(run.dataset)
    splits = probe_splits(pack)
    labelled = labelled_part(pack, splits.train, recipe.label_fraction, seed=recipe.seed)  # (N,)
    seen, y = torch.unique(torch.from_numpy(pack.labels[labelled]), return_inverse=True)  # (K,), (N,)
    model, pretraining = load_model(run.model)
    served = with_storage_side(pretraining, pack.storage_side)
    network = Finetuned(model, served, len(seen), torch.device(run.spec().device))
    plan = Plan.of(len(y), epochs=recipe.epochs, batch_size=recipe.batch_size, rate=recipe.learning_rate)
    store = ImageStore(pack, labelled, _device(network))
    trained = _train(network, store, y, plan, recipe.seed, run, should_stop)
    about = {
        "layer": "h",
        "label_fraction": recipe.label_fraction,
        "num_labels": len(y),
        "num_train": len(splits.train),
        "epochs": plan.epochs,
        "batch_size": plan.batch_size,
        "learning_rate": plan.peak,
        **trained,
    }
    fitted = _fitted(network.eval(), seen, pack, splits, run, about)
    save_head(fitted, "h", run.output / HEAD_FILE)
    export(model, served, pack, ExportRecipe(seed=recipe.seed), run)
    return {**about, **linear_scores(fitted, seed=recipe.seed)}


def _train(
    network: Finetuned,
    store: ImageStore,
    y: Tensor,
    plan: Plan,
    seed: int,
    run: RunFolder,
    should_stop: Callable[[], bool],
) -> dict[str, Any]:
    torch.backends.cudnn.benchmark = True  # batches of one size
    trained = [*network.model.encoder.parameters(), *network.classifier.parameters()]
    optimizer = nesterov([w for w in trained if w.requires_grad])
    state = load_newest_checkpoint(run.checkpoints, _device(network))
    first = state["step"] if state else 0
    report = Report(run, plan.batch_size, plan.epochs, first, plan.steps, plan.steps_per_epoch, REMEDY)
    if state:
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        report.go_on_from(state["report"])

    def checkpoint(done: int) -> None:
        report.refuse_non_finite_loss()
        report.refuse_non_finite_weights(network)
        states = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "report": report.state()}
        save_checkpoint(run.checkpoints, done, states)

    network.train()
    save_at = time.monotonic() + CHECKPOINT_SECONDS
    image_size = network.recipe.preprocessing.image_size
    for step, (x, labels) in enumerate(
        labelled_batches(store, y, plan, image_size, seed=seed, first=first), start=first
    ):
        optimizer.param_groups[0]["lr"] = plan.rate(step)
        loss = cross_entropy(network(x), labels)
        loss.backward()  # type: ignore[no-untyped-call]  # torch's stub
        optimizer.step()
        optimizer.zero_grad()
        report.step(step, loss.detach(), plan.rate(step))

        stop = should_stop()
        if stop or time.monotonic() >= save_at or step + 1 == plan.steps:
            checkpoint(step + 1)
            save_at = time.monotonic() + CHECKPOINT_SECONDS
        if stop and step + 1 < plan.steps:
            raise Interrupted
    figures = {name: report.state()[name] for name in ("loss", "seconds")}
    return {"steps": plan.steps, **figures, "images_per_second": report.mean_images_per_second()}


def _fitted(network: Finetuned, seen: Tensor, pack: Pack, splits: ProbeSplits, run: RunFolder, about: Any) -> Fitted:
    """The classifier with h of the test images, in float32 as it is served."""
    frozen = FrozenModel(network.model, network.recipe, _device(network))
    test = features_of(run, frozen, pack, splits.test, "h")
    head = LinearHead(network.classifier.weight.detach(), network.classifier.bias.detach())
    return Fitted(head, seen.to(frozen.device), pack.classes, test, splits.test_split, about)


def _device(network: nn.Module) -> torch.device:
    return next(network.parameters()).device
