"""Applies an operation to some of the views only.

Legend: V views, S their side.
"""

from collections.abc import Callable

import torch
from torch import Tensor


def on_rows(planes: Tensor, active: Tensor, operation: Callable[..., Tensor], *per_row: Tensor) -> Tensor:
    """Planes (3, V, S, S) whose views where `active`, (V,) bool, went through `operation(planes, *per_row)`.

    `per_row` are (V, ...) tensors; on the CPU the planes are changed in place.
    """
    if planes.is_cuda:
        return _on_all(planes, active, operation, *per_row)
    return _on_picked(planes, active, operation, *per_row)


def _on_picked(planes: Tensor, active: Tensor, operation: Callable[..., Tensor], *per_row: Tensor) -> Tensor:
    """Compute the active views only: on a CPU work is what costs."""
    rows = active.nonzero().squeeze(1)
    changed = operation(planes.index_select(1, rows), *(values.index_select(0, rows) for values in per_row))
    return planes.index_copy_(1, rows, changed)


def _on_all(planes: Tensor, active: Tensor, operation: Callable[..., Tensor], *per_row: Tensor) -> Tensor:
    """Compute all views and select: the number of active ones lies on the device, and reading it would stall."""
    return torch.where(active[:, None, None], operation(planes, *per_row), planes)
