"""What the operations of Fig. 4 have in common: random parameters of each view, and how to apply them.

Legend: N images, B of whose views the operation changes, V = B N; S the views' side.
"""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from models.config import Augmentation
from trainer.augment.draws import Stream
from trainer.data import send


@dataclass(frozen=True)
class Operation(ABC):
    """One operation with its parameters for all views; tensors are (B, N, ...), view first."""

    probability: ClassVar[str | None] = None  # the recipe's field that holds it; None: every view is changed
    compiles: ClassVar[bool] = True  # on CUDA, with its neighbours into one kernel; products are better left alone

    @classmethod
    @abstractmethod
    def sample(cls, config: Augmentation, stream: Stream) -> Self:
        """Random parameters of all views, on the CPU."""

    @abstractmethod
    def __call__(self, planes: Tensor) -> Tensor:
        """The changed planes, (3, V, S, S) float in [0, 1]; those given may be overwritten."""

    def rows(self, rows: slice | Tensor) -> Self:
        """The parameters of some of the images."""
        return self._each(lambda values: values[:, rows])

    def to(self, device: torch.device) -> Self:
        """The parameters on `device`; the host doesn't wait for the copies."""
        return self._each(lambda values: send(values, device))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Self:
        changes: dict[str, Any] = {name: change(value) for name, value in vars(self).items()}
        return dataclasses.replace(self, **changes)
