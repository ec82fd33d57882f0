"""ViT-S as MoCo v3 trains it (arXiv 2104.02057): a vision transformer whose patch projection stays as it was drawn.

Legend: M images, S image side, s patches a side, P = s s patches, T = P + 1 tokens (the class token is the first),
H heads, D size of a token and of h.

Contrastive training of a ViT is unstable, and its gradient peaks first in the patch projection; with a fixed random
one it is stable and more accurate (Section 4.2 there). Twelve heads, the fixed sine-cosine positions and the
initialisation are MoCo v3's too.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from models.config import Encoder
from models.layers import VIT_BLOCKS

SIZE = 384  # D at width 1
NUM_HEADS = 12  # at width 1: a head has 32 of D at any width
MLP_RATIO = 4
NORM_EPS = 1e-6
POSITION_BASE = 10_000.0  # the lowest frequency of the positions is nearly its inverse


class ViT(nn.Module):
    """Patches and a class token through twelve transformer blocks; h is the class token.

    The recipe's width multiplies D and the heads.
    """

    def __init__(self, config: Encoder, image_size: int) -> None:
        super().__init__()
        self.size = int(SIZE * config.width)  # D
        self.patch_projection = frozen_patch_projection(config.patch_size, self.size)
        positions = position_embedding(image_size // config.patch_size, self.size)
        self.register_buffer("positions", positions, persistent=False)  # the recipe says all of it
        self.class_token = nn.Parameter(torch.zeros(1, 1, self.size))
        nn.init.normal_(self.class_token, std=1e-6)
        self.blocks = nn.Sequential(*(Block(self.size, int(NUM_HEADS * config.width)) for _ in range(VIT_BLOCKS)))
        self.norm = nn.LayerNorm(self.size, NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """(M, 3, S, S) float in [0, 1] -> h, (M, D)."""
        tokens = self.blocks(self._tokens(x))  # (M, T, D)
        h: Tensor = self.norm(tokens[:, 0])  # (M, D)
        return h

    def layers(self, x: Tensor) -> Iterator[Tensor]:
        """The class token after each block but the last, then h: (M, D) each."""
        tokens = self._tokens(x)
        for block in self.blocks[:-1]:
            tokens = block(tokens)  # (M, T, D)
            yield tokens[:, 0]
        yield self.norm(self.blocks[-1](tokens)[:, 0])

    def _tokens(self, x: Tensor) -> Tensor:
        patches = self.patch_projection(x).flatten(2).transpose(1, 2) + self.positions  # (M, P, D)
        class_token = self.class_token.expand(x.shape[0], -1, -1)  # (M, 1, D); it has no position
        return torch.cat([class_token, patches], dim=1)  # (M, T, D)


class Block(nn.Module):
    """Attention, then a perceptron on each token, each behind a layer norm and beside a shortcut."""

    def __init__(self, size: int, num_heads: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(size, NORM_EPS)
        self.attention = Attention(size, num_heads)
        self.mlp_norm = nn.LayerNorm(size, NORM_EPS)
        self.mlp = nn.Sequential(linear(size, MLP_RATIO * size), nn.GELU(), linear(MLP_RATIO * size, size))

    def forward(self, x: Tensor) -> Tensor:
        """(M, T, D) -> (M, T, D)."""
        x = x + self.attention(self.attention_norm(x))
        tokens: Tensor = x + self.mlp(self.mlp_norm(x))
        return tokens


class Attention(nn.Module):
    """Every token takes from every token: softmax(q k / sqrt(D / H)) v in each head."""

    def __init__(self, size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        # q, k and v are drawn as three kernels: sqrt(6 / 2D) is sqrt(2) times the bound of one kernel D -> 3D.
        self.qkv = linear(size, 3 * size, gain=math.sqrt(2))
        self.output = linear(size, size)

    def forward(self, x: Tensor) -> Tensor:
        """(M, T, D) -> (M, T, D)."""
        qkv = self.qkv(x).unflatten(2, (3, self.num_heads, -1))  # (M, T, 3, H, D / H)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind()  # (M, H, T, D / H) each
        heads = scaled_dot_product_attention(q, k, v)  # (M, H, T, D / H)
        tokens: Tensor = self.output(heads.transpose(1, 2).flatten(2))  # (M, T, D)
        return tokens


def linear(in_size: int, out_size: int, *, gain: float = 1.0) -> nn.Linear:
    """A linear layer with Xavier's uniform kernel, bound gain sqrt(6 / (in + out)), and a bias of 0."""
    layer = nn.Linear(in_size, out_size)
    nn.init.xavier_uniform_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer


def frozen_patch_projection(patch_size: int, size: int) -> nn.Conv2d:
    """The linear map of each patch to its token, as it was drawn: no gradient reaches it, no optimizer holds it."""
    projection = nn.Conv2d(3, size, patch_size, stride=patch_size).requires_grad_(requires_grad=False)
    nn.init.xavier_uniform_(projection.weight.flatten(1))  # of a linear map, bound sqrt(6 / (3 patch_size^2 + D))
    assert projection.bias is not None
    nn.init.zeros_(projection.bias)
    return projection


def position_embedding(side: int, size: int) -> Tensor:
    """Sines and cosines of each patch's row, then of its column, at D / 4 frequencies: (s s, D), patches row by row.

    Frequency k is POSITION_BASE^(-4 k / D), radians a patch.
    """
    num_frequencies = size // 4
    frequencies = POSITION_BASE ** -(torch.arange(num_frequencies, dtype=torch.float64) / num_frequencies)  # (D / 4,)
    phases = torch.outer(torch.arange(side, dtype=torch.float64), frequencies)  # (s, D / 4)
    waves = torch.cat([phases.sin(), phases.cos()], dim=1)  # (s, D / 2)
    rows, columns = waves.repeat_interleave(side, dim=0), waves.repeat(side, 1)  # (s s, D / 2) each
    return torch.cat([rows, columns], dim=1).float()  # (s s, D)
