"""SimCLR's network: an encoder f and a projection head g on top (Fig. 2).

Legend: M images, S image side, C size of h, D size of z.
"""

from torch import Tensor, nn

from models.config import PretrainRecipe
from models.encoders import build_encoder
from models.heads import build_head


class SimCLR(nn.Module):
    """h = f(x), z = g(h)."""

    def __init__(self, recipe: PretrainRecipe) -> None:
        super().__init__()
        self.encoder = build_encoder(recipe.encoder, recipe.preprocessing.image_size)
        self.head = build_head(recipe.head, self.encoder.size)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(M, 3, S, S) float in [0, 1] -> h (M, C), z (M, D)."""
        h = self.encoder(x)  # (M, C)
        return h, self.head(h)  # (M, D)
