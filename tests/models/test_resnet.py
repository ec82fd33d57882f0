"""ResNets against torchvision's, the paper's sizes and the definition of a residual block at its start."""

import pytest
import torch
import torchvision
from torch import nn

from models.config import Encoder
from models.resnet import BasicBlock, Bottleneck, ResNet

TORCHVISION = {
    "resnet18": torchvision.models.resnet18,
    "resnet34": torchvision.models.resnet34,
    "resnet50": torchvision.models.resnet50,
    "resnet101": torchvision.models.resnet101,
    "resnet152": torchvision.models.resnet152,
}


def num_parameters(config: Encoder) -> int:
    with torch.device("meta"):  # no memory for the weights
        return sum(w.numel() for w in ResNet(config).parameters())


def randomize(module: nn.Module, seed: int = 0) -> None:
    """Give batch norms weights and statistics that hide nothing: gamma 0 would leave the branches unseen."""
    generator = torch.Generator().manual_seed(seed)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5, generator=generator)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_equals_torchvision(name: str) -> None:
    """With torchvision's weights, h is what torchvision feeds its classifier, in training and evaluation."""
    torch.manual_seed(0)
    reference = TORCHVISION[name]().double()
    randomize(reference)
    reference.fc = nn.Identity()
    encoder = ResNet(Encoder(name=name, stem="imagenet")).double()
    encoder.load_state_dict(reference.state_dict())
    x = torch.rand(2, 3, 64, 64, dtype=torch.float64)
    for training in (False, True):
        h = encoder.train(training)(x)
        assert h.shape == (2, encoder.size)
        torch.testing.assert_close(h, reference.train(training)(x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", TORCHVISION)
def test_has_torchvision_s_parameters(name: str) -> None:
    """Names and shapes of all parameters are torchvision's without the classifier."""
    with torch.device("meta"):
        ours = ResNet(Encoder(name=name, stem="imagenet")).state_dict()
        theirs = TORCHVISION[name]().state_dict()
    shapes = {key: value.shape for key, value in theirs.items() if not key.startswith("fc.")}
    assert {key: value.shape for key, value in ours.items()} == shapes


@pytest.mark.parametrize(("width", "millions"), [(1, 24), (2, 94), (4, 375)])
def test_has_the_paper_s_number_of_parameters(width: float, millions: int) -> None:
    """ResNet-50 of width 1, 2 and 4 has 24, 94 and 375 million parameters (Table 6)."""
    assert round(num_parameters(Encoder(name="resnet50", width=width, stem="imagenet")) / 1e6) == millions


def test_resnet10_has_one_basic_block_a_stage() -> None:
    """ResNet-10 is ResNet-18 with the second block of each stage left out."""
    small = set(ResNet(Encoder(name="resnet10")).state_dict())
    large = set(ResNet(Encoder(name="resnet18")).state_dict())
    assert small == {name for name in large if name.split(".")[1:2] != ["1"]}


@pytest.mark.parametrize(("stem", "sides"), [("cifar", [32, 16, 8, 4]), ("imagenet", [8, 4, 2, 1])])
def test_stems(stem: str, sides: list[int]) -> None:
    """The cifar stem keeps the resolution, the imagenet stem quarters it; stages 2 to 4 halve it (B.9)."""
    encoder = ResNet(Encoder(name="resnet10", width=0.25, stem=stem))
    seen = []
    for i in range(1, 5):
        encoder.get_submodule(f"layer{i}").register_forward_hook(lambda *args: seen.append(args[2].shape[-1]))
    encoder(torch.rand(2, 3, 32, 32))
    assert seen == sides


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
@pytest.mark.parametrize("training", [False, True])
def test_a_block_starts_as_its_shortcut(block: type[BasicBlock | Bottleneck], *, training: bool) -> None:
    """Gamma starts at 0 in the last batch norm of a block: a block that keeps the shape is a ReLU."""
    torch.manual_seed(0)
    inner = 8
    channels = inner * block.expansion
    x = torch.randn(4, channels, 6, 6)
    assert torch.equal(block(channels, inner, stride=1).train(training)(x), x.relu())


def test_batch_norm_and_kernels_start_as_the_paper_s() -> None:
    """Batch norm has eps 1e-5 and moves its statistics by 0.1; kernels have He's variance, 2 over the fan-out."""
    torch.manual_seed(0)
    encoder = ResNet(Encoder(name="resnet18"))
    assert {(m.eps, m.momentum) for m in encoder.modules() if isinstance(m, nn.BatchNorm2d)} == {(1e-5, 0.1)}
    for name, weight in encoder.named_parameters():
        if weight.ndim == 4:
            fan_out = weight.shape[0] * weight.shape[2] * weight.shape[3]
            assert weight.var().item() * fan_out / 2 == pytest.approx(1, abs=0.15), name
