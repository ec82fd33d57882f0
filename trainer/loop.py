"""SimCLR pretraining (Algorithm 1): from a packed data set to an exported encoder.

Legend: N images a step, 2N views, S image side, D projection dim.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from models.config import PretrainRecipe, pretrain_recipe
from models.export import ParityError, export_model
from models.simclr import SimCLR
from trainer.augment import sample_parameters, two_views
from trainer.checkpoint import load_newest_checkpoint, save_checkpoint
from trainer.data import ImageStore, epoch_order, model_inputs
from trainer.loss import nt_xent
from trainer.optim import build_optimizer, learning_rate, peak_learning_rate
from trainer.pack import Pack
from trainer.run import RunError, RunFolder

REPORT_SECONDS = 1.0
NUM_PARITY_IMAGES = 64


class Interrupted(Exception):
    """The run was asked to stop; its state is in a checkpoint."""


def pretrain(run: RunFolder, should_stop: Callable[[], bool]) -> dict[str, Any]:
    """Train by the recipe in the run folder, from its newest checkpoint if it has one, and export the encoder.

    Returns the result: steps, seconds of training over all attempts, images a second, the last loss and the model's
    description. Raises Interrupted when `should_stop()`, after a checkpoint; RunError when the loss is not finite, or
    the exported model isn't the trained one.
    """
    spec = run.spec()
    pack = Pack.open(run.dataset)
    recipe = _with_storage_side(pretrain_recipe(spec.recipe), pack.storage_side)
    torch.manual_seed(recipe.seed)
    model = _build(recipe).to(spec.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub
    summary = _train(model, recipe, pack, run, should_stop) if recipe.schedule.epochs else {"steps": 0, "seconds": 0.0}
    run.emit("stage", stage="export")
    return {**summary, "model": _export(model, recipe, pack, run)}


def _build(recipe: PretrainRecipe) -> SimCLR:
    try:
        return SimCLR(recipe)
    except ValueError as error:
        raise RunError("invalid_recipe", str(error)) from error


def _export(model: SimCLR, recipe: PretrainRecipe, pack: Pack, run: RunFolder) -> dict[str, Any]:
    held_out = pack.split("test") if len(pack.split("test")) else pack.split("train")
    images = model_inputs(pack, held_out[:NUM_PARITY_IMAGES], recipe.preprocessing)
    try:
        return export_model(model, recipe, images, run.output)
    except ParityError as error:
        raise RunError("parity", str(error)) from error


def _with_storage_side(recipe: PretrainRecipe, storage_side: int) -> PretrainRecipe:
    """The recipe with the size at which its data set is stored: the encoder must be served what it was trained on."""
    preprocessing = recipe.preprocessing.model_copy(update={"storage_side": storage_side})
    return recipe.model_copy(update={"preprocessing": preprocessing})


def _train(
    model: SimCLR, recipe: PretrainRecipe, pack: Pack, run: RunFolder, should_stop: Callable[[], bool]
) -> dict[str, Any]:
    device = next(model.parameters()).device
    store = ImageStore(pack, pack.split("train"), device)
    steps_per_epoch = len(store) // recipe.batch_size  # the images left over sit this epoch out
    if not steps_per_epoch:
        raise RunError("batch_too_large", f"recipe.batch_size: at most the {len(store)} training images")
    steps = recipe.schedule.epochs * steps_per_epoch
    peak = peak_learning_rate(recipe.optimizer, recipe.batch_size)
    optimizer = build_optimizer(model, recipe.optimizer)
    state = load_newest_checkpoint(run.checkpoints, device)
    if state:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    first = state["step"] if state else 0
    report = Report(run, recipe, first_step=first, steps=steps, steps_per_epoch=steps_per_epoch)
    if state:
        report.go_on_from(state["report"])

    def checkpoint(done: int) -> None:
        report.refuse_non_finite()
        states = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "report": report.state()}
        save_checkpoint(run.checkpoints, done, states)

    model.train()
    saved_at = time.monotonic()
    for step in range(first, steps):
        epoch, batch_number = divmod(step, steps_per_epoch)
        if batch_number == 0 or step == first:
            order = epoch_order(len(store), seed=recipe.seed, epoch=epoch)
        indices = order[batch_number * recipe.batch_size :][: recipe.batch_size]  # (N,)

        rate = learning_rate(step, peak=peak, schedule=recipe.schedule, steps_per_epoch=steps_per_epoch)
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = train_step(model, optimizer, store, indices, recipe, step)
        report.step(step, loss, rate)

        if should_stop() and step + 1 < steps:
            checkpoint(step + 1)
            raise Interrupted
        if step + 1 == steps or time.monotonic() - saved_at >= recipe.checkpoint_every_seconds:
            checkpoint(step + 1)
            saved_at = time.monotonic()
    return {"steps": steps, **report.state(), "images_per_second": report.mean_images_per_second()}


def train_step(
    model: SimCLR,
    optimizer: torch.optim.Optimizer,
    store: ImageStore,
    indices: Tensor,
    recipe: PretrainRecipe,
    step: int,
) -> Tensor:
    """One step of Algorithm 1 on the images at `indices` (N,); the loss, a scalar still on the device."""
    batch = store.batch(indices)
    parameters = sample_parameters(
        recipe.augmentation,
        batch.heights,
        batch.widths,
        recipe.preprocessing.image_size,
        seed=recipe.seed,
        step=step,
    )
    x = two_views(batch, parameters).contiguous(memory_format=torch.channels_last)  # (2N, 3, S, S)
    bfloat16 = recipe.precision == "bfloat16"
    with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=bfloat16):
        _, z = model(x)  # (2N, D); batch norm sees all 2N views
    loss = nt_xent(z.float(), recipe.loss.temperature)
    loss.backward()  # type: ignore[no-untyped-call]  # torch's stub
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach()


@dataclass
class Report:
    """Tells the run folder once a second how training goes; only then does the host wait for the device."""

    run: RunFolder
    recipe: PretrainRecipe
    first_step: int
    steps: int
    steps_per_epoch: int

    def __post_init__(self) -> None:
        self.started = self.window_at = time.monotonic()
        self.window_step = self.done = self.first_step
        self.loss: Tensor | None = None
        self.last_loss = math.nan
        self.seconds_before = 0.0

    def state(self) -> dict[str, float]:
        """What a run that goes on from here, or has ended, knows: the last loss and the seconds of training."""
        return {"loss": self.last_loss, "seconds": self.seconds_before + time.monotonic() - self.started}

    def go_on_from(self, state: dict[str, float]) -> None:
        """Take up the `state` of the process that trained before; there may be no step left."""
        self.last_loss, self.seconds_before = state["loss"], state["seconds"]

    def step(self, step: int, loss: Tensor, rate: float) -> None:
        """Note the loss of a step, and report if a second has passed or it was the last."""
        self.loss, self.done = loss, step + 1
        now = time.monotonic()
        if now - self.window_at < REPORT_SECONDS and self.done < self.steps:
            return
        self.refuse_non_finite()
        images_per_second = (self.done - self.window_step) * self.recipe.batch_size / (now - self.window_at)
        self.run.emit(
            "metrics",
            step=self.done,
            steps=self.steps,
            epoch=self.done / self.steps_per_epoch,
            epochs=self.recipe.schedule.epochs,
            loss=self.last_loss,
            learning_rate=rate,
            images_per_second=images_per_second,
            eta_seconds=(self.steps - self.done) * self.recipe.batch_size / images_per_second,
        )
        self.window_at, self.window_step = now, self.done

    def refuse_non_finite(self) -> None:
        """Raise RunError if the newest loss is not a finite number."""
        if self.loss is None:
            return
        self.last_loss = float(self.loss)
        if not math.isfinite(self.last_loss):
            raise RunError(
                "non_finite_loss",
                f"the loss is {self.last_loss} at step {self.done} of {self.steps}; lower optimizer.learning_rate,"
                " lengthen schedule.warmup_epochs or raise loss.temperature, and start again",
            )

    def mean_images_per_second(self) -> float:
        """Over all processes that trained."""
        return self.done * self.recipe.batch_size / self.state()["seconds"]
