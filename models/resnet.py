"""ResNets: He et al.'s (arXiv 1512.03385) without the classifier, as the SimCLR authors train them.

Legend: M images, S image side, s side of a map, C channels, D size of h.

A bottleneck strides in its 3x3 convolution, as in the authors' code and torchvision. Parameters are named as
torchvision's, so that its checkpoints load.
"""

from collections.abc import Iterator
from itertools import chain

from torch import Tensor, nn
from torch.nn.functional import relu

from models.config import Encoder
from models.layers import RESNET_BLOCKS

STEM_CHANNELS = 64  # at width 1; stage i of the four has 64, 128, 256, 512 inner channels


def convolution(in_channels: int, out_channels: int, *, kernel: int, stride: int = 1) -> nn.Conv2d:
    """A padded convolution without a bias: the batch norm after it has one."""
    return nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False)


def zero_gamma(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    """`norm` with gamma 0: a residual block whose branch ends in it starts as its shortcut (arXiv 1706.02677)."""
    nn.init.zeros_(norm.weight)
    return norm


def shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """The identity where a block keeps the shape, else a strided 1x1 projection."""
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return nn.Sequential(convolution(in_channels, out_channels, kernel=1, stride=stride), nn.BatchNorm2d(out_channels))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions: ResNet-10, 18 and 34."""

    expansion = 1

    def __init__(self, in_channels: int, inner: int, stride: int) -> None:
        super().__init__()
        self.conv1 = convolution(in_channels, inner, kernel=3, stride=stride)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = convolution(inner, inner, kernel=3)
        self.bn2 = zero_gamma(nn.BatchNorm2d(inner))
        self.downsample = shortcut(in_channels, inner, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(M, C, s, s) -> (M, inner, s / stride, s / stride)."""
        branch = relu(self.bn1(self.conv1(x)))
        branch = self.bn2(self.conv2(branch))
        return relu(self.downsample(x) + branch)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions, the last to four times the channels: ResNet-50, 101 and 152."""

    expansion = 4

    def __init__(self, in_channels: int, inner: int, stride: int) -> None:
        super().__init__()
        out_channels = inner * self.expansion
        self.conv1 = convolution(in_channels, inner, kernel=1)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = convolution(inner, inner, kernel=3, stride=stride)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = convolution(inner, out_channels, kernel=1)
        self.bn3 = zero_gamma(nn.BatchNorm2d(out_channels))
        self.downsample = shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(M, C, s, s) -> (M, 4 inner, s / stride, s / stride)."""
        branch = relu(self.bn1(self.conv1(x)))
        branch = relu(self.bn2(self.conv2(branch)))
        branch = self.bn3(self.conv3(branch))
        return relu(self.downsample(x) + branch)


BLOCKS: dict[str, type[BasicBlock | Bottleneck]] = {
    "resnet10": BasicBlock,
    "resnet18": BasicBlock,
    "resnet34": BasicBlock,
    "resnet50": Bottleneck,
    "resnet101": Bottleneck,
    "resnet152": Bottleneck,
}


class ResNet(nn.Module):
    """Stem, four stages of residual blocks, mean over the positions.

    The recipe's width multiplies every channel count. The cifar stem is one 3x3 convolution (B.9), the imagenet
    stem a 7x7 convolution of stride 2 and a max-pool of stride 2.
    """

    def __init__(self, config: Encoder) -> None:
        super().__init__()
        block, num_blocks = BLOCKS[config.name], RESNET_BLOCKS[config.name]
        channels = int(STEM_CHANNELS * config.width)
        self.size = 8 * channels * block.expansion  # D
        imagenet = config.stem == "imagenet"
        self.conv1 = convolution(3, channels, kernel=7 if imagenet else 3, stride=2 if imagenet else 1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1) if imagenet else nn.Identity()
        self.layer1 = stage(block, channels, channels, num_blocks[0], stride=1)
        self.layer2 = stage(block, channels * block.expansion, 2 * channels, num_blocks[1], stride=2)
        self.layer3 = stage(block, 2 * channels * block.expansion, 4 * channels, num_blocks[2], stride=2)
        self.layer4 = stage(block, 4 * channels * block.expansion, 8 * channels, num_blocks[3], stride=2)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """(M, 3, S, S) float in [0, 1] -> h, (M, D)."""
        x = self.layer4(self.layer3(self.layer2(self.layer1(self._stem(x)))))  # (M, D, s, s)
        return x.mean(dim=(2, 3))

    def layers(self, x: Tensor) -> Iterator[Tensor]:
        """The stem's and each block's output, averaged over the positions, (M, C) each; the last is h."""
        x = self._stem(x)
        yield x.mean(dim=(2, 3))
        for block in chain(self.layer1, self.layer2, self.layer3, self.layer4):
            x = block(x)  # (M, C, s, s)
            yield x.mean(dim=(2, 3))

    def _stem(self, x: Tensor) -> Tensor:
        stem: Tensor = self.maxpool(relu(self.bn1(self.conv1(x))))  # (M, C, s, s)
        return stem


def stage(
    block: type[BasicBlock | Bottleneck], in_channels: int, inner: int, num_blocks: int, *, stride: int
) -> nn.Sequential:
    """`num_blocks` blocks, of which the first changes the channels and strides."""
    first = block(in_channels, inner, stride)
    rest = (block(inner * block.expansion, inner, 1) for _ in range(num_blocks - 1))
    return nn.Sequential(first, *rest)
