"""One step of Algorithm 1: two views -> encoder -> head -> contrastive loss -> gradient -> update.

Legend: N images of this rank, 2N views, n images a microbatch, S image side, C size of h, D projection dim. With
several ranks, loss and parameters' gradients are those of all ranks' images.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from models.config import PretrainRecipe
from models.simclr import SimCLR
from trainer.batch_norm import over_all_ranks
from trainer.compiler import compiles_for
from trainer.losses import contrastive_loss
from trainer.ranks import ALONE, Ranks
from trainer.replica import Replica, gradients_kept


def build_model(recipe: PretrainRecipe, device: torch.device, ranks: Ranks = ALONE) -> SimCLR:
    """The recipe's network as it is trained: initialised from the seed, channels_last, compiled where that pays.

    Compiling takes a minute. It makes a GPU faster by a multiple and a CPU by 3%, so a CPU goes without. Several ranks
    go without too: the collective operations of batch norm would break the graph at every layer (that was not tried).
    """
    torch.backends.cudnn.benchmark = True  # the first steps try cuDNN's algorithms: the choice holds for all others
    torch.manual_seed(recipe.seed)
    model = SimCLR(recipe)
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub
    over_all_ranks(model, ranks)
    if recipe.compile and ranks.size == 1 and compiles_for(device):
        # Shapes don't change in a run; compiled for any shape, convolutions would keep a slower layout.
        model.encoder.compile(dynamic=False)
        model.head.compile(dynamic=False)
    return model


class Outputs(NamedTuple):
    """What a step computed on its way, still on the device and without a graph."""

    loss: Tensor  # a scalar
    h: Tensor  # (2N, C)
    z: Tensor  # (2N, D)


def train_step(
    model: SimCLR | Replica,
    optimizer: torch.optim.Optimizer,
    x: Tensor,
    recipe: PretrainRecipe,
    ranks: Ranks = ALONE,
) -> Outputs:
    """One update by the views x (2N, 3, S, S) float32 in [0, 1]."""
    differentiate = backward_in_microbatches if recipe.microbatch_size else backward
    outputs = differentiate(model, x, recipe, ranks)
    optimizer.step()
    optimizer.zero_grad()
    return outputs


def backward(model: SimCLR | Replica, x: Tensor, recipe: PretrainRecipe, ranks: Ranks = ALONE) -> Outputs:
    """The loss of the views x (2N, 3, S, S); its gradient is added to the parameters'."""
    with autocast(x, recipe):
        h = model.encoder(x)  # (2N, C); batch norm sees all 2N views
        z = model.head(h)  # (2N, D)
    loss = contrastive_loss(at_least_float32(z), recipe.loss, ranks)
    loss.backward()  # type: ignore[no-untyped-call]  # torch's stub
    return Outputs(loss.detach(), h.detach(), z.detach())


def backward_in_microbatches(
    model: SimCLR | Replica, x: Tensor, recipe: PretrainRecipe, ranks: Ranks = ALONE
) -> Outputs:
    """`backward`, with the activations of n images at a time (the gradient cache of arXiv 2101.06983).

    First h of every view without a graph; then head and loss on all of them, which gives dL/dh; then each
    microbatch again, with a graph, from dL/dh on. The gradient is exact for the loss over all N images: every
    view meets every negative. What changes is the function: an encoder's batch norm normalises over the 2n views
    of a microbatch, and its running statistics move once a microbatch. The head's sees all 2N, and layer norm (the
    ViT) doesn't see a batch at all. Of several ranks' batch norms each sees the ranks' microbatches together.
    """
    assert recipe.microbatch_size is not None
    N = len(x) // 2
    parts = [slice(start, start + recipe.microbatch_size) for start in range(0, N, recipe.microbatch_size)]
    with torch.no_grad(), autocast(x, recipe):
        views = [model.encoder(images_of(x, part)).unflatten(0, (2, -1)) for part in parts]  # (2, n, C) each
    h = torch.cat(views, 1).flatten(0, 1).requires_grad_()  # (2N, C)
    with autocast(x, recipe):
        z = model.head(h)  # (2N, D)
    loss = contrastive_loss(at_least_float32(z), recipe.loss, ranks)
    loss.backward()  # type: ignore[no-untyped-call]  # torch's stub
    assert h.grad is not None
    with running_statistics_kept(model.encoder):
        for part in parts:
            with nullcontext() if part is parts[-1] else gradients_kept(model.encoder):
                with autocast(x, recipe):
                    h_part = model.encoder(images_of(x, part))  # (2n, C)
                h_part.backward(images_of(h.grad, part))
    return Outputs(loss.detach(), h.detach(), z.detach())


def autocast(x: Tensor, recipe: PretrainRecipe) -> torch.autocast:
    """Where encoder and head compute in the recipe's precision; the loss stays out of it."""
    return torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=recipe.precision == "bfloat16")


def at_least_float32(z: Tensor) -> Tensor:
    """The values as float32, or as float64 if they are."""
    return z.to(torch.promote_types(z.dtype, torch.float32))


def images_of(views: Tensor, part: slice) -> Tensor:
    """Both views of some of the images: (2N, ...) -> (2n, ...)."""
    x1, x2 = views.chunk(2)
    return torch.cat((x1[part], x2[part]))


@contextmanager
def running_statistics_kept(module: nn.Module) -> Iterator[None]:
    """Within it batch norm normalises by the batch as ever, but its running statistics don't move."""
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
