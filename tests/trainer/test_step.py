"""A training step is Algorithm 1, and in microbatches it has the gradient of the whole batch."""

from functools import partialmethod
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import trainer.step
from models.config import PretrainRecipe, pretrain_recipe
from models.simclr import SimCLR
from tests.trainer.pretraining import RECIPE, run_folder
from trainer.augment import sample_parameters, two_views
from trainer.batches import training_batches
from trainer.data import ImageStore, epoch_order
from trainer.losses.nt_xent import nt_xent
from trainer.optim import build_optimizer
from trainer.pack import Pack
from trainer.step import backward, backward_in_microbatches, build_model, train_step

CPU = torch.device("cpu")
VIT = {"name": "vit_small", "width": 0.25, "patch_size": 8}


@pytest.fixture
def packed(tmp_path: Path) -> Pack:
    """20 images of 20 x 18 pixels."""
    return Pack.open(run_folder(tmp_path).dataset)


def recipe_of(**changes: Any) -> PretrainRecipe:
    return pretrain_recipe({**RECIPE, **changes})


def float64_model(recipe: PretrainRecipe) -> SimCLR:
    return build_model(recipe, CPU).double().train()


def views(num_images: int = 8) -> Tensor:
    """Random views (2N, 3, 16, 16) float64."""
    return torch.rand(2 * num_images, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def gradients(model: SimCLR) -> dict[str, Tensor]:
    return {name: w.grad.clone() for name, w in model.named_parameters() if w.grad is not None}


def assert_equal_gradients(ours: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert ours.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-9, atol=1e-12, msg=lambda m, name=name: f"{name}: {m}")


def test_a_step_is_algorithm_1(packed: Pack) -> None:
    """A step's loss and new weights are those of the algorithm written out over one concatenated pass of 2N views."""
    recipe = recipe_of()
    store = ImageStore(packed, packed.split("train"), CPU)
    model, reference = build_model(recipe, CPU).train(), build_model(recipe, CPU).train()
    optimizer, reference_optimizer = (build_optimizer(m, recipe.optimizer) for m in (model, reference))
    for group in (*optimizer.param_groups, *reference_optimizer.param_groups):
        group["lr"] = 0.5

    x = next(training_batches(store, recipe, first=1, steps=2)).views()
    loss = train_step(model, optimizer, x, recipe).loss

    images = store.batch(epoch_order(len(store), seed=0, epoch=0)[8:16])
    drawn = sample_parameters(recipe.augmentation, images.heights, images.widths, 16, seed=0, step=1)
    z = reference.head(reference.encoder(two_views(images, drawn)))
    expected = nt_xent(z, recipe.loss.temperature)
    expected.backward()  # type: ignore[no-untyped-call]
    reference_optimizer.step()
    torch.testing.assert_close(loss, expected.detach())
    for (name, w), v in zip(model.named_parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(w, v, msg=name)


@pytest.mark.parametrize("loss", ["nt_xent", "nt_logistic", "margin"])
@pytest.mark.parametrize("microbatch_size", [1, 2, 4, 8])
def test_microbatches_of_an_encoder_without_batch_norm_have_the_gradient_of_the_batch(
    microbatch_size: int, loss: str
) -> None:
    """With layer norm, loss and gradient are those of one pass over all images, whatever fits in memory at once."""
    recipe = recipe_of(encoder=VIT, microbatch_size=microbatch_size, loss={"name": loss})
    model, whole = float64_model(recipe), float64_model(recipe)
    ours, expected = backward_in_microbatches(model, views(), recipe), backward(whole, views(), recipe)
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-14)  # how sums round differs between processors
    assert_equal_gradients(gradients(model), gradients(whole))


def test_microbatches_of_a_resnet_have_the_gradient_of_one_graph() -> None:
    """Batch norm sees microbatches in the encoder and all views in the head; its gradient is exact."""
    recipe = recipe_of(microbatch_size=4)
    model, reference, x = float64_model(recipe), float64_model(recipe), views()
    loss = backward_in_microbatches(model, x, recipe).loss

    first, second = torch.cat((x[:4], x[8:12])), torch.cat((x[4:8], x[12:]))  # both views of images 0..3 and 4..7
    h1, h2 = reference.encoder(first), reference.encoder(second)
    h = torch.cat((h1[:4], h2[:4], h1[4:], h2[4:]))
    expected = nt_xent(reference.head(h), recipe.loss.temperature)
    expected.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-12, atol=0)
    assert_equal_gradients(gradients(model), gradients(reference))


def test_the_second_pass_does_not_move_the_running_statistics() -> None:
    """After a step in microbatches they are those after one training pass over each microbatch."""
    recipe = recipe_of(microbatch_size=4)
    model, reference, x = float64_model(recipe), float64_model(recipe), views()
    backward_in_microbatches(model, x, recipe)
    with torch.no_grad():
        h1, h2 = reference.encoder(torch.cat((x[:4], x[8:12]))), reference.encoder(torch.cat((x[4:8], x[12:])))
        reference.head(torch.cat((h1[:4], h2[:4], h1[4:], h2[4:])))
    statistics = {name: value for name, value in reference.named_buffers() if name.endswith(("_mean", "_var"))}
    assert len(statistics) > 10
    ours = dict(model.named_buffers())
    for name, value in statistics.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-12, atol=1e-14)
    assert all(m.momentum == 0.1 for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d))


def test_one_microbatch_is_the_batch() -> None:
    """With microbatch_size = batch_size a ResNet's gradient is the ordinary one."""
    recipe = recipe_of(microbatch_size=8)
    model, whole = float64_model(recipe), float64_model(recipe)
    backward_in_microbatches(model, views(), recipe)
    backward(whole, views(), recipe)
    assert_equal_gradients(gradients(model), gradients(whole))


@pytest.mark.parametrize("microbatch_size", [None, 4])
def test_bfloat16_computes_the_loss_in_float32(microbatch_size: int | None) -> None:
    """Under autocast parameters, gradients and loss stay float32, and the loss is near the one in full precision."""
    recipe = recipe_of(precision="bfloat16", microbatch_size=microbatch_size)
    model, full, x = build_model(recipe, CPU).train(), build_model(recipe, CPU).train(), views().float()
    optimizer = build_optimizer(model, recipe.optimizer)
    seen = []
    for part in (model.encoder, model.head):
        part.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    loss = train_step(model, optimizer, x, recipe).loss
    assert set(seen) == {torch.bfloat16}
    assert loss.dtype == torch.float32
    assert {w.dtype for w in model.parameters()} == {torch.float32}
    recipe = recipe_of(microbatch_size=microbatch_size)
    expected = train_step(full, build_optimizer(full, recipe.optimizer), x, recipe).loss
    torch.testing.assert_close(loss, expected, rtol=0.05, atol=0)


needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.parametrize(
    ("device", "precision", "tolerance"),
    [
        ("cpu", "float32", 1e-4),
        pytest.param("cuda", "float32", 5e-3, marks=[pytest.mark.gpu, needs_cuda]),
        pytest.param("cuda", "bfloat16", 0.1, marks=[pytest.mark.gpu, needs_cuda]),
    ],
)
@pytest.mark.parametrize("microbatch_size", [None, 4])
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # asked for by the compiler
def test_a_compiled_step_is_the_step(
    monkeypatch: pytest.MonkeyPatch, device: str, precision: str, tolerance: float, microbatch_size: int | None
) -> None:
    """Two steps of the compiled network have the losses of the network as it is, on a GPU without waiting for it."""
    eager_recipe = recipe_of(precision=precision, microbatch_size=microbatch_size, compile=False)
    eager = build_model(eager_recipe, torch.device(device)).train()
    if device == "cpu":  # what traces on a CPU traces on a GPU; the code that comes out differs
        monkeypatch.setattr(trainer.step, "compiles_for", lambda device: True)
        monkeypatch.setattr(torch.nn.Module, "compile", partialmethod(torch.nn.Module.compile, backend="aot_eager"))
    recipe = eager_recipe.model_copy(update={"compile": True})
    compiled = build_model(recipe, torch.device(device)).train()
    x = views().float().to(device, memory_format=torch.channels_last)
    losses = []
    for model in (eager, compiled):
        optimizer = build_optimizer(model, recipe.optimizer)
        for group in optimizer.param_groups:
            group["lr"] = 0.5
        first = train_step(model, optimizer, x, recipe).loss
        if device == "cuda":
            torch.cuda.set_sync_debug_mode("error")  # the first step may wait, for libraries and the compiler
        try:
            losses.append(torch.stack((first, train_step(model, optimizer, x, recipe).loss)))
        finally:
            if device == "cuda":
                torch.cuda.set_sync_debug_mode("default")
    torch.compiler.reset()
    torch.testing.assert_close(losses[1], losses[0], rtol=tolerance, atol=0)
