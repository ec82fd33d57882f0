"""What a rank runs of the model: encoder and head, whose parameters' gradients are summed over the ranks.

The model itself stays as it is, so that a checkpoint is the same for any number of ranks.
"""

import warnings
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from models.simclr import SimCLR
from trainer.ranks import Ranks


@dataclass(frozen=True)
class Replica:
    """The two parts of a SimCLR, as they are called."""

    encoder: nn.Module
    head: nn.Module


def replica_of(model: SimCLR, ranks: Ranks) -> Replica:
    """The model's parts on this rank; one rank has no one to share gradients with."""
    if ranks.size == 1:
        return Replica(model.encoder, model.head)
    return Replica(_sharing_gradients(model.encoder), _sharing_gradients(model.head))


def gradients_kept(module: nn.Module) -> AbstractContextManager[None]:
    """Within it gradients only add up on this rank; the next backward outside it sums them over the ranks."""
    return module.no_sync() if isinstance(module, DistributedDataParallel) else nullcontext()


def _sharing_gradients(module: nn.Module) -> nn.Module:
    if not any(w.requires_grad for w in module.parameters()):
        return module  # a head of no layers
    with warnings.catch_warnings(action="ignore", category=FutureWarning):  # torch 2.15 renames the argument
        # Buffers are the running statistics of global batch norm: the same on every rank.
        shared = DistributedDataParallel(module, broadcast_buffers=False, gradient_as_bucket_view=True)
    shared.register_comm_hook(None, _sum_over_ranks)
    return shared


def _sum_over_ranks(_: object, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:  # type: ignore[name-defined]  # it is
    """The loss is that of all ranks' images, so its gradient is the sum; without a hook it would be the mean."""
    work = dist.all_reduce(bucket.buffer(), async_op=True)
    assert work is not None
    future: torch.futures.Future[Tensor] = work.get_future().then(lambda done: done.value()[0])
    return future
