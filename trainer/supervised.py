"""How the paper trains with labels (B.5, B.6): Nesterov SGD on a cosine without warm-up, no weight decay."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from models.config import Schedule
from trainer.optim import learning_rate


@dataclass(frozen=True)
class Plan:
    """How long training takes, and at which rate."""

    epochs: int
    batch_size: int
    steps_per_epoch: int
    peak: float

    @classmethod
    def of(cls, num_images: int, *, epochs: int, batch_size: int, rate: float) -> Self:
        """For a recipe's numbers: a batch has at most all images, and the rate is of 256 of them."""
        size = min(batch_size, num_images)
        return cls(epochs, size, num_images // size, rate * size / 256)

    @property
    def steps(self) -> int:
        """Of all epochs."""
        return self.epochs * self.steps_per_epoch

    def rate(self, step: int) -> float:
        """The learning rate of step 0, 1, ...: half a cosine from the peak to 0."""
        schedule = Schedule(epochs=self.epochs, warmup_epochs=0)
        return learning_rate(step, peak=self.peak, schedule=schedule, steps_per_epoch=self.steps_per_epoch)


def nesterov(parameters: list[Tensor]) -> torch.optim.SGD:
    """SGD with Nesterov momentum 0.9; the loop sets the learning rate."""
    return torch.optim.SGD(parameters, lr=0.0, momentum=0.9, nesterov=True)
