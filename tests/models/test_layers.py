"""Named layers against torch's hooks on the modules that make them."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.config import PretrainRecipe
from models.layers import layer_names, unknown_layer
from models.simclr import SimCLR

RESNET10 = ("stem", "layer1.0", "layer2.0", "layer3.0", "h")
SIDE = 16


def recipe_of(encoder: str, *, num_layers: int = 2, **fields: Any) -> PretrainRecipe:
    return PretrainRecipe.model_validate(
        {
            "preprocessing": {"image_size": SIDE},
            "encoder": {"name": encoder, **({"width": 0.25} if encoder != "pixels" else {}), **fields},
            "head": {"num_layers": num_layers, "hidden_size": 24, "output_size": 12},
            "schedule": {"epochs": 0, "warmup_epochs": 0},
        }
    )


def trained(recipe: PretrainRecipe) -> SimCLR:
    """A network whose parameters and batch norm statistics are all its own, in eval mode."""
    torch.manual_seed(0)
    model = SimCLR(recipe)
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point():
            tensor.data += 0.1 * torch.rand_like(tensor)
    return model.eval()


@torch.no_grad()
def seen_by_hooks(model: SimCLR, modules: dict[str, nn.Module], x: Tensor) -> dict[str, Tensor]:
    """What the network's own forward pass makes in these modules, and its h and z."""
    seen: dict[str, Tensor] = {}
    for name, module in modules.items():
        module.register_forward_hook(lambda _, __, output, name=name: seen.__setitem__(name, output))
    seen["h"], seen["z"] = model(x)
    return seen


@torch.no_grad()
def outputs(model: SimCLR, x: Tensor) -> dict[str, Tensor]:
    return model.layers(x, model.layer_names)


@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
@pytest.mark.parametrize(("encoder", "names"), [("resnet10", RESNET10), ("resnet18", None), ("resnet50", None)])
def test_a_resnets_layers_are_its_blocks_averaged(encoder: str, names: tuple[str, ...] | None, stem: str) -> None:
    """Stem and blocks are the modules' outputs averaged over the positions; the last block's average is h."""
    model, x = trained(recipe_of(encoder, num_layers=3, stem=stem)), torch.rand(3, 3, SIDE, SIDE)
    found = outputs(model, x)
    modules = dict(model.encoder.named_modules())
    blocks = [name for name, m in modules.items() if type(m).__name__ in {"BasicBlock", "Bottleneck"}]
    assert tuple(found) == ("stem", *blocks[:-1], "h", "g1", "g2", "z")
    if names is not None:
        assert tuple(found)[: len(names)] == names
    hooked = {"stem": modules["maxpool"], **{name: modules[name] for name in blocks}}
    seen = seen_by_hooks(model, hooked | {"g1": model.head[2], "g2": model.head[5]}, x)
    for name, output in found.items():
        expected = seen[name].mean(dim=(2, 3)) if seen[name].ndim == 4 else seen[name]
        assert torch.equal(output, expected), name
    assert torch.equal(found["h"], seen[blocks[-1]].mean(dim=(2, 3)))


def test_a_vits_layers_are_its_class_tokens() -> None:
    """The class token after each of the twelve blocks; after the last it is normalised, and h."""
    model, x = trained(recipe_of("vit_small", patch_size=8)), torch.rand(3, 3, SIDE, SIDE)
    found = outputs(model, x)
    assert tuple(found) == (*(f"blocks.{i}" for i in range(11)), "h", "g1", "z")
    modules = dict(model.encoder.named_modules())
    seen = seen_by_hooks(model, {f"blocks.{i}": modules[f"blocks.{i}"] for i in range(11)} | {"g1": model.head[2]}, x)
    for name, output in found.items():
        assert torch.equal(output, seen[name][:, 0] if seen[name].ndim == 3 else seen[name]), name


@pytest.mark.parametrize(
    ("num_layers", "names"), [(0, ("h",)), (1, ("h", "z")), (2, ("h", "g1", "z")), (3, ("h", "g1", "g2", "z"))]
)
def test_raw_pixels_have_h_and_the_heads_layers(num_layers: int, names: tuple[str, ...]) -> None:
    """The baseline's only layer before the head is h; a head of no layers adds none, for z is h."""
    recipe = recipe_of("pixels", num_layers=num_layers)
    x = torch.rand(3, 3, SIDE, SIDE)
    found = outputs(trained(recipe), x)
    assert tuple(found) == layer_names(recipe) == names
    assert torch.equal(found["h"], x.flatten(1))


def test_a_hidden_layer_of_the_head_is_after_its_relu() -> None:
    """g1 is ReLU(batch norm(W h)), written out."""
    model, x = trained(recipe_of("resnet10")), torch.rand(3, 3, SIDE, SIDE)
    linear, norm = model.head[0], model.head[1]
    assert isinstance(linear, nn.Linear)
    assert isinstance(norm, nn.BatchNorm1d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    found = outputs(model, x)
    scaled = (found["h"] @ linear.weight.T - norm.running_mean) / (norm.running_var + norm.eps).sqrt()
    expected = (scaled * norm.weight + norm.bias).clamp(min=0)
    torch.testing.assert_close(found["g1"], expected.detach(), rtol=1e-4, atol=1e-5)


def test_nothing_is_computed_beyond_the_last_wanted_layer() -> None:
    """To have layer2.0, neither a later block nor the head runs."""
    model, x = trained(recipe_of("resnet10")), torch.rand(3, 3, SIDE, SIDE)
    whole = outputs(model, x)
    modules = dict(model.named_modules())
    ran: list[str] = []
    for name in ("encoder.layer2.0", "encoder.layer3.0", "head.0"):
        modules[name].register_forward_pre_hook(lambda *_, name=name: ran.append(name))
    with torch.no_grad():
        found = model.layers(x, ["layer2.0", "stem"])
    assert tuple(found) == ("stem", "layer2.0")
    assert all(torch.equal(found[name], whole[name]) for name in found)
    assert ran == ["encoder.layer2.0"]


@pytest.mark.parametrize("encoder", ["resnet10", "vit_small"])
def test_reading_layers_changes_nothing(encoder: str) -> None:
    """In eval mode, parameters and batch norm's buffers are bit for bit the same before and after."""
    model = trained(recipe_of(encoder, patch_size=8))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    outputs(model, torch.rand(4, 3, SIDE, SIDE))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_an_unknown_layer_is_named_with_those_there_are() -> None:
    """The message holds the names asked for in vain and all that the model has; of known ones there is none."""
    recipe = recipe_of("resnet10")
    assert unknown_layer(recipe, ["stem", "z"]) is None
    message = unknown_layer(recipe, ["h", "layer4.0", "g2"])
    assert message == ("one of the model's layers, stem, layer1.0, layer2.0, layer3.0, h, g1, z; not 'layer4.0', 'g2'")
