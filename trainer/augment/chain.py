"""Operations one after the other.

Legend: V views, S their side.
"""

import functools
import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from trainer.augment.operation import Operation


def apply(operations: Sequence[Operation], planes: Tensor, *, compiled: bool) -> Tensor:
    """Planes (3, V, S, S) after the operations, first to last; the planes given may be overwritten.

    On CUDA and if `compiled`, operations between matrix products are compiled into few kernels: they are bound by
    memory, and eagerly each would read and write all planes several times.
    """
    for compiles, neighbours in itertools.groupby(operations, lambda operation: operation.compiles):
        run = _compiled() if compiled and compiles and planes.is_cuda else one_by_one
        planes = run(tuple(neighbours), planes)
    return planes


def one_by_one(operations: tuple[Operation, ...], planes: Tensor) -> Tensor:
    """Planes (3, V, S, S) after the operations."""
    for operation in operations:
        planes = operation(planes)
    return planes


def on_a_copy(operations: tuple[Operation, ...], planes: Tensor) -> Tensor:
    """What is compiled. The copy is never made: it says that nobody will read the planes given once more."""
    return one_by_one(operations, planes.clone())


@functools.cache
def _compiled() -> Callable[[tuple[Operation, ...], Tensor], Tensor]:
    """Not made where it isn't needed: importing the compiler takes seconds."""
    return torch.compile(on_a_copy, fullgraph=True, dynamic=False)
