"""What is random about two views.

Legend: N images, B of whose views are changed: both, or one in Fig. 5's protocol; S the views' side.
"""

import dataclasses
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from trainer.augment.crop import Crop
from trainer.augment.operation import Operation


@dataclass(frozen=True)
class ViewParameters:
    """Everything that distinguishes N images' two views."""

    image_size: int  # S
    start: Crop  # of the stored images: (2, N), a view each, or (1, N), one that both views start from
    num_changed: int  # B
    operations: tuple[Operation, ...]  # what follows, first to last; (B, N, ...)

    @property
    def start_is_shared(self) -> bool:
        """Whether both views of an image start from the same crop."""
        return len(self.start.top) == 1

    def rows(self, rows: slice | Tensor) -> Self:
        """The parameters of some of the images."""
        operations = tuple(operation.rows(rows) for operation in self.operations)
        return dataclasses.replace(self, start=self.start.rows(rows), operations=operations)

    def to(self, device: torch.device) -> Self:
        """The parameters on `device`; the host doesn't wait for the copies."""
        operations = tuple(operation.to(device) for operation in self.operations)
        return dataclasses.replace(self, start=self.start.to(device), operations=operations)
