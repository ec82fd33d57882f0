"""Encoders f: image -> representation h (Section 2.1): ResNets, a vision transformer, and raw pixels as a baseline.

Legend: M images, S image side, D size of h.
"""

from collections.abc import Iterator

from torch import Tensor, nn

from models.config import Encoder
from models.resnet import ResNet
from models.vit import ViT


def build_encoder(config: Encoder, image_size: int) -> "ResNet | ViT | Pixels":
    """The encoder that a recipe asks for.

    Its forward takes (M, 3, S, S) float in [0, 1] to h, (M, D); its attribute `size` is D. Its `layers` takes them to
    the pooled output of one layer after the other (models/layers.py), of which the last is h.
    """
    if config.name == "pixels":
        return Pixels(image_size)
    if config.name == "vit_small":
        return ViT(config, image_size)
    return ResNet(config)


class Pixels(nn.Module):
    """The baseline whose h is the flattened image."""

    def __init__(self, image_size: int) -> None:
        super().__init__()
        self.size = 3 * image_size**2

    def forward(self, x: Tensor) -> Tensor:
        """(M, 3, S, S) -> (M, 3 S S)."""
        return x.flatten(1)

    def layers(self, x: Tensor) -> Iterator[Tensor]:
        """(M, 3, S, S) -> h alone."""
        yield self(x)
