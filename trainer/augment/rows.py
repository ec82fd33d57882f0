"""Applies an operation to some of the views only.

Legend: V views, S their side.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from trainer.data import send


def on_rows(planes: Tensor, active: Tensor, operation: Callable[..., Tensor], *per_row: Tensor) -> Tensor:
    """Planes (3, V, S, S) whose views where `active`, (V,) bool, went through `operation(planes, *per_row)`.

    `per_row` are (V, ...) tensors beside `active`. Where they lie on the CPU, wherever the planes do, the active views
    alone are computed, and the planes changed in place.
    """
    if active.is_cuda or torch.compiler.is_compiling():
        return _on_all(planes, active, operation, *per_row)
    return _on_picked(planes, active, operation, *per_row)


def _on_picked(planes: Tensor, active: Tensor, operation: Callable[..., Tensor], *per_row: Tensor) -> Tensor:
    """Compute the active views only: on a CPU work is what costs."""
    rows = active.nonzero().squeeze(1)
    if not len(rows):  # some operations of torch refuse a batch of none
        return planes
    picked = (send(values.index_select(0, rows), planes.device) for values in per_row)
    rows = send(rows, planes.device)
    return planes.index_copy_(1, rows, operation(planes.index_select(1, rows), *picked))


def _on_all(planes: Tensor, active: Tensor, operation: Callable[..., Tensor], *per_row: Tensor) -> Tensor:
    """Compute all views and select: the number of active ones lies on the device, and reading it would stall."""
    return torch.where(active[:, None, None], operation(planes, *per_row), planes)
