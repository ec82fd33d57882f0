"""What a rank computes for test_distributed.py, which runs this as W processes and calls the same functions alone.

python -m tests.trainer.rank_results FOLDER        with torchrun's environment; leaves FOLDER/RANK.pt
"""

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.config import pretrain_recipe
from tests.trainer.losses.naive import projections
from tests.trainer.losses.test_losses import CONFIGS
from tests.trainer.pretraining import RECIPE
from trainer.batch_norm import over_all_ranks
from trainer.batches import training_batches
from trainer.data import ImageStore
from trainer.losses import contrastive_loss
from trainer.optim import build_optimizer
from trainer.pack import Pack
from trainer.ranks import ALONE, Ranks, joined
from trainer.replica import replica_of
from trainer.step import backward_in_microbatches, build_model, images_of, train_step

CPU = torch.device("cpu")
NUM_IMAGES = 8  # a batch, N
NORMS: dict[str, tuple[type[nn.Module], tuple[int, ...], torch.dtype]] = {
    "1d": (nn.BatchNorm1d, (8, 6), torch.float64),
    "2d": (nn.BatchNorm2d, (8, 6, 5, 4), torch.float64),
    "2d bfloat16": (nn.BatchNorm2d, (8, 6, 5, 4), torch.bfloat16),
}


def losses(ranks: Ranks = ALONE) -> list[tuple[Tensor, Tensor]]:
    """Of each loss of CONFIGS its value and its gradient by the rank's own rows (2n, D)."""
    z = images_of(projections(NUM_IMAGES, 3, seed=4).detach(), ranks.own(NUM_IMAGES)).requires_grad_()
    values = [contrastive_loss(z, config, ranks) for config in CONFIGS]
    return [(value.detach(), *torch.autograd.grad(3 * value, z)) for value in values]


def batch_norm(name: str, ranks: Ranks = ALONE) -> dict[str, Tensor]:
    """Two training passes and one in evaluation: outputs, gradients and buffers; rows are the rank's own."""
    class_, shape, dtype = NORMS[name]
    generator = torch.Generator().manual_seed(2)
    x, dy = (torch.randn(2, *shape, dtype=torch.float64, generator=generator).to(dtype) for _ in range(2))
    x = 2 * x + 5
    model = nn.Sequential(class_(6))
    model.to(torch.promote_types(dtype, torch.float32))
    with torch.no_grad():
        model[0].weight.copy_(torch.linspace(-1, 2, 6))
        model[0].bias.copy_(torch.linspace(0, 1, 6))
    over_all_ranks(model, ranks)
    own = ranks.own(8)
    results: dict[str, Tensor] = {}
    for i in range(2):
        leaf = x[i, own].clone().requires_grad_()
        y = model(leaf)
        y.backward(dy[i, own])
        results |= {f"y{i}": y.detach(), f"dx{i}": leaf.grad}
    gradients = {name: ranks.sum(w.grad) for name, w in model.named_parameters()}
    return {**results, "y of evaluation": model.eval()(x[0, own]).detach(), **gradients, **dict(model.named_buffers())}


def views(order: list[int] | None = None) -> Tensor:
    """Random views (2N, 3, 16, 16) float64, of the images in another order if one is given."""
    x = torch.rand(2 * NUM_IMAGES, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return x if order is None else images_of(x, torch.tensor(order))


def training(ranks: Ranks = ALONE, **changes: Any) -> dict[str, Tensor]:
    """Five steps of LARS in float64: the losses, then the model's parameters and buffers."""
    recipe = pretrain_recipe({**RECIPE, **changes})
    model = build_model(recipe, CPU, ranks).double().train()
    optimizer = build_optimizer(model, recipe.optimizer)
    replica = replica_of(model, ranks)
    for group in optimizer.param_groups:
        group["lr"] = 0.5
    x = images_of(views(), ranks.own(NUM_IMAGES))
    values = [train_step(replica, optimizer, x, recipe, ranks).loss for _ in range(5)]
    return {"losses": torch.stack(values), **model.state_dict()}


def microbatches(size: int, order: list[int] | None = None, ranks: Ranks = ALONE) -> dict[str, Tensor]:
    """Loss, gradients and buffers of one backward pass in microbatches of `size` images a rank."""
    recipe = pretrain_recipe({**RECIPE, "microbatch_size": size})
    model = build_model(recipe, CPU, ranks).double().train()
    x = images_of(views(order), ranks.own(NUM_IMAGES))
    loss = backward_in_microbatches(replica_of(model, ranks), x, recipe, ranks).loss
    gradients = {f"d {name}": w.grad for name, w in model.named_parameters() if w.grad is not None}
    return {"loss": loss, **gradients, **dict(model.named_buffers())}


def drawn_views(dataset: Path, ranks: Ranks = ALONE) -> list[Tensor]:
    """The views of the rank's own images, (2n, 3, 16, 16), of each of six steps."""
    pack = Pack.open(dataset)
    store = ImageStore(pack, pack.split("train"), CPU)
    return [batch.views() for batch in training_batches(store, pretrain_recipe(RECIPE), 0, 6, ranks)]


def main(folder: Path) -> None:
    with joined("cpu", collective_seconds=30) as ranks:
        results = {
            "losses": losses(ranks),
            "batch_norm": {name: batch_norm(name, ranks) for name in NORMS},
            "training": training(ranks),
            "no head": training(ranks, head={"num_layers": 0}),
            "microbatches": microbatches(NUM_IMAGES // ranks.size // 2, ranks=ranks),
            "views": drawn_views(folder / "dataset", ranks),
            "any": [ranks.any(False, ranks.rank == r) for r in range(ranks.size)] + [ranks.any(False, False)],
            "broadcast": [ranks.broadcast(b"\0state" if ranks.is_first else None), ranks.broadcast(None)],
        }
        torch.save(results, folder / f"{ranks.rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
