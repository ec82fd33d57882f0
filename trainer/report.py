"""What a training run tells its run folder, and the refusal of one that has diverged."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trainer.run import RunError, RunFolder

REPORT_SECONDS = 1.0
MEASURE_SECONDS = 10.0


@dataclass
class Report:
    """Tells the run folder once a second how training goes; only then does the host wait for the device."""

    run: RunFolder
    batch_size: int
    epochs: int
    first_step: int
    steps: int
    steps_per_epoch: int
    remedy: str  # what a user can do against divergence

    def __post_init__(self) -> None:
        self.started = self.window_at = time.monotonic()
        self.window_step = self.done = self.first_step
        self.unread: list[Tensor] = []  # losses of the last steps up to `done`, still on the device
        self.last_loss = math.nan
        self.last_measures: dict[str, float] = {}
        self.unsaid: dict[str, float] = {}
        self.measured_at = -math.inf
        self.seconds_before = 0.0

    def state(self) -> dict[str, Any]:
        """What a run that goes on from here, or has ended, knows: last loss and measures, and seconds of training."""
        seconds = self.seconds_before + time.monotonic() - self.started
        return {"loss": self.last_loss, "seconds": seconds, "measures": self.last_measures}

    def go_on_from(self, state: dict[str, Any]) -> None:
        """Take up the `state` of the process that trained before; there may be no step left."""
        self.last_loss, self.seconds_before = state["loss"], state["seconds"]
        self.last_measures = dict(state.get("measures", {}))  # an older version's checkpoint has none

    def note(self, **figures: float) -> None:
        """Tell these with the next report, and with the run's measures."""
        self.last_measures |= figures
        self.unsaid |= figures

    def step(self, step: int, loss: Tensor, rate: float, measure: Callable[[], dict[str, float]] = dict) -> None:
        """Note the loss of a step, a scalar without a graph, and report if a second has passed or it was the last.

        `measure` says more of the step; it is called now and then.
        """
        self.unread.append(loss)
        self.done = step + 1
        now = time.monotonic()
        if now - self.window_at < REPORT_SECONDS and self.done < self.steps:
            return
        self.refuse_non_finite_loss()
        measured = self._measures(measure)
        now = time.monotonic()  # the device has caught up only now
        images_per_second = (self.done - self.window_step) * self.batch_size / (now - self.window_at)
        self.run.emit(
            "metrics",
            step=self.done,
            steps=self.steps,
            epoch=self.done / self.steps_per_epoch,
            epochs=self.epochs,
            loss=self.last_loss,
            learning_rate=rate,
            images_per_second=images_per_second,
            eta_seconds=(self.steps - self.done) * self.batch_size / images_per_second,
            **measured,
            **self.unsaid,
        )
        self.unsaid = {}
        self.window_at, self.window_step = now, self.done

    def _measures(self, measure: Callable[[], dict[str, float]]) -> dict[str, float]:
        """What `measure` says of the step, if it is time for it: it may take tens of milliseconds."""
        if self.done < self.steps and time.monotonic() - self.measured_at < MEASURE_SECONDS:
            return {}
        measured = measure()
        self.last_measures |= measured
        self.measured_at = time.monotonic()
        return measured

    def refuse_non_finite_loss(self) -> None:
        """Raise RunError if a loss since the last look isn't a finite number; it names the first such step."""
        losses = torch.stack(self.unread).tolist() if self.unread else []
        for step, loss in enumerate(losses, start=self.done - len(losses) + 1):
            if not math.isfinite(loss):
                message = f"the loss is {loss} at step {step} of {self.steps}; {self.remedy}"
                raise RunError("non_finite_loss", message, details={"step": step})
            self.last_loss = loss
        self.unread.clear()

    def refuse_non_finite_weights(self, model: nn.Module) -> None:
        """Raise RunError if an update has spoilt the model, so that no checkpoint holds what can't go on."""
        finite = torch.stack([torch.isfinite(value).all() for value in model.state_dict().values()])
        if not finite.all():
            message = f"weights are not finite after step {self.done} of {self.steps}; {self.remedy}"
            raise RunError("non_finite_loss", message, details={"step": self.done})

    def mean_images_per_second(self) -> float:
        """Over all processes that trained."""
        return self.done * self.batch_size / float(self.state()["seconds"])
