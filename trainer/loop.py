"""SimCLR pretraining (Algorithm 1): from a packed data set to an exported encoder."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from models.config import ExportRecipe, PretrainRecipe, pretrain_recipe
from models.simclr import SimCLR
from trainer.batches import training_batches
from trainer.checkpoint import load_newest_checkpoint, save_checkpoint
from trainer.compiler import compiles_for
from trainer.data import ImageStore
from trainer.export import export
from trainer.monitor import measures
from trainer.online_knn import OnlineKnn
from trainer.optim import build_optimizer, learning_rate, peak_learning_rate
from trainer.pack import Pack
from trainer.ranks import ALONE, Ranks
from trainer.replica import replica_of
from trainer.report import Report
from trainer.run import RunError, RunFolder
from trainer.step import build_model, train_step

REMEDY = (
    "lower optimizer.learning_rate, lengthen schedule.warmup_epochs or raise the loss's temperature, and start again"
)
NOT_COMPILED = "install gcc and Python's headers (python3-dev): without them training on a GPU is much slower"


class Interrupted(Exception):
    """The run was asked to stop; its state is in a checkpoint."""


def pretrain(run: RunFolder, should_stop: Callable[[], bool], ranks: Ranks = ALONE) -> dict[str, Any] | None:
    """Train by the recipe in the run folder, from its newest checkpoint if it has one, and export the encoder.

    Returns the result: steps, seconds of training over all attempts, images a second, the last loss and the model's
    description; of several ranks the first has it alone, and alone reports, saves and exports. Raises Interrupted when
    `should_stop()` on any rank, after a checkpoint; RunError when the loss is not finite, or the exported model isn't
    the trained one.
    """
    spec = run.spec()
    pack = Pack.open(run.dataset)
    recipe = with_storage_side(pretrain_recipe(spec.recipe), pack.storage_side)
    if recipe.batch_size % ranks.size:
        message = f"recipe.batch_size: a multiple of the {ranks.size} processes that train, not {recipe.batch_size}"
        raise RunError("invalid_recipe", message)
    device = ranks.device(spec.device)
    if ranks.is_first and recipe.compile and device.type == "cuda" and not compiles_for(device):
        run.emit("warning", code="not_compiled", message=NOT_COMPILED)
    model = _build(recipe, device, ranks)
    summary: dict[str, Any] = {"steps": 0, "seconds": 0.0}
    if recipe.schedule.epochs:
        summary = _train(model, recipe, pack, run, should_stop, ranks)
    if not ranks.is_first:
        return None
    return {**summary, "model": export(model, recipe, pack, ExportRecipe(seed=recipe.seed), run)}


def _build(recipe: PretrainRecipe, device: torch.device, ranks: Ranks) -> SimCLR:
    try:
        return build_model(recipe, device, ranks)
    except ValueError as error:
        raise RunError("invalid_recipe", str(error)) from error


def with_storage_side(recipe: PretrainRecipe, storage_side: int) -> PretrainRecipe:
    """The recipe with the size at which its data set is stored: the encoder must be served what it was trained on."""
    preprocessing = recipe.preprocessing.model_copy(update={"storage_side": storage_side})
    return recipe.model_copy(update={"preprocessing": preprocessing})


def _steps_per_epoch(store: ImageStore, recipe: PretrainRecipe) -> int:
    if len(store) < recipe.batch_size:
        raise RunError("batch_too_large", f"recipe.batch_size: at most the {len(store)} training images")
    return len(store) // recipe.batch_size


def _train(
    model: SimCLR,
    recipe: PretrainRecipe,
    pack: Pack,
    run: RunFolder,
    should_stop: Callable[[], bool],
    ranks: Ranks,
) -> dict[str, Any]:
    device = next(model.parameters()).device
    store = ImageStore(pack, pack.split("train"), device)
    steps_per_epoch = _steps_per_epoch(store, recipe)
    steps = recipe.schedule.epochs * steps_per_epoch
    peak = peak_learning_rate(recipe.optimizer, recipe.batch_size)
    optimizer = build_optimizer(model, recipe.optimizer)
    knn = OnlineKnn.of(pack, recipe) if recipe.knn_every_epochs else None
    ranks.wait_for_all()  # all images to a GPU, from a cold disk, take minutes
    state = load_newest_checkpoint(run.checkpoints, device, ranks)
    first = state["step"] if state else 0
    report = Report(run, recipe.batch_size, recipe.schedule.epochs, first, steps, steps_per_epoch, REMEDY)
    if state:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        report.go_on_from(state["report"])

    def checkpoint(done: int) -> None:
        if ranks.is_first:
            report.refuse_non_finite_loss()
            report.refuse_non_finite_weights(model)
            states = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "report": report.state()}
            save_checkpoint(run.checkpoints, done, states)
        ranks.wait_for_all()  # a slow disk takes longer than a collective operation may

    replica = replica_of(model.train(), ranks)
    save_at = time.monotonic() + recipe.checkpoint_every_seconds
    for step, batch in enumerate(training_batches(store, recipe, first, steps, ranks), start=first):
        rate = learning_rate(step, peak=peak, schedule=recipe.schedule, steps_per_epoch=steps_per_epoch)
        for group in optimizer.param_groups:
            group["lr"] = rate
        outputs = train_step(replica, optimizer, batch.views(), recipe, ranks)
        if knn and knn.is_due(step + 1, steps=steps, steps_per_epoch=steps_per_epoch):
            report.note(knn_top1=knn.top1(model))  # on every rank: the others would only wait for the first
        if ranks.is_first:
            report.step(step, outputs.loss, rate, partial(measures, outputs.h, outputs.z, recipe.loss))

        stop, save = ranks.any(should_stop(), time.monotonic() >= save_at)
        if stop or save or step + 1 == steps:
            checkpoint(step + 1)
            save_at = time.monotonic() + recipe.checkpoint_every_seconds
        if stop and step + 1 < steps:
            raise Interrupted
    return {"steps": steps, **report.state(), "images_per_second": report.mean_images_per_second()}
