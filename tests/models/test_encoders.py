"""What every encoder does: takes an image of the recipe's side and gives an h of the size that it says."""

import pytest
import torch

from models.config import Encoder
from models.encoders import build_encoder


@pytest.mark.parametrize(
    ("name", "width", "size"),
    [
        ("resnet10", 0.25, 128),
        ("resnet18", 1, 512),
        ("resnet50", 1, 2048),
        ("resnet50", 4, 8192),
        ("vit_small", 0.25, 96),
        ("vit_small", 1, 384),
        ("vit_small", 4, 1536),
    ],
)
def test_width_multiplies_the_size_of_h(name: str, width: float, size: int) -> None:
    """Size of h: 512 a unit of width with basic blocks, 2048 with bottlenecks, 384 with ViT-S."""
    with torch.device("meta"):
        encoder = build_encoder(Encoder(name=name, width=width), 32)
        assert encoder.size == size
        assert encoder(torch.zeros(2, 3, 32, 32)).shape == (2, size)


@pytest.mark.parametrize("name", ["resnet10", "resnet50", "vit_small", "pixels"])
def test_the_order_of_memory_changes_nothing(name: str) -> None:
    """Weights and images that lie channels last, or in strides of a crop, give the same h."""
    torch.manual_seed(0)
    encoder = build_encoder(Encoder(name=name, width=0.25, patch_size=8), 16).double()
    x = torch.rand(3, 3, 16, 16, dtype=torch.float64)
    h = encoder(x)
    wide = torch.zeros(3, 3, 20, 20, dtype=torch.float64)
    crop = wide[:, :, 2:18, 2:18].copy_(x)
    encoder.to(memory_format=torch.channels_last)
    for same in (x, x.contiguous(memory_format=torch.channels_last), crop):
        torch.testing.assert_close(encoder(same), h, rtol=1e-10, atol=1e-10)


def test_pixels_flattens() -> None:
    """The baseline's h is the image's values, channel by channel."""
    encoder = build_encoder(Encoder(name="pixels"), 8)
    x = torch.rand(2, 3, 8, 8)
    assert encoder.size == 192
    assert encoder(x).tolist() == [[v for channel in image for row in channel for v in row] for image in x.tolist()]
    assert not list(encoder.parameters())
