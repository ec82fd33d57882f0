"""SimCLR's network: an encoder f and a projection head g on top (Fig. 2).

Legend: M images, S image side, C size of h, D size of z.
"""

from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from models.config import PretrainRecipe
from models.encoders import build_encoder
from models.heads import build_head
from models.layers import layer_names

MAX_PARAMETERS = 530_000_000  # with the buffers: an ONNX file ends at 2 GiB, and these are float32


class SimCLR(nn.Module):
    """h = f(x), z = g(h). Raises ValueError if it is too large to be exported, before it is trained."""

    def __init__(self, recipe: PretrainRecipe) -> None:
        super().__init__()
        self.encoder = build_encoder(recipe.encoder, recipe.preprocessing.image_size)
        self.head = build_head(recipe.head, self.encoder.size)
        self.layer_names = layer_names(recipe)
        num_parameters = sum(w.numel() for w in (*self.parameters(), *self.buffers()))
        if num_parameters > MAX_PARAMETERS:
            raise ValueError(
                f"encoder.width, head.hidden_size: with at most {MAX_PARAMETERS} parameters, not {num_parameters}"
            )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(M, 3, S, S) float in [0, 1] -> h (M, C), z (M, D)."""
        h = self.encoder(x)  # (M, C)
        return h, self.head(h)  # (M, D)

    def layers(self, x: Tensor, wanted: Sequence[str]) -> dict[str, Tensor]:
        """The pooled outputs of the `wanted` layers (models/layers.py has the names), first to last, in one pass.

        (M, 3, S, S) float in [0, 1] -> (M, size) each. Nothing is computed beyond the last of them.
        """
        assert set(wanted) <= set(self.layer_names)
        last = max(wanted, key=self.layer_names.index)
        outputs: dict[str, Tensor] = {}
        for name, output in zip(self.layer_names, self._outputs(x), strict=False):
            if name in wanted:
                outputs[name] = output
            if name == last:
                break
        return outputs

    def _outputs(self, x: Tensor) -> Iterator[Tensor]:
        """The outputs of all layers, in the order of their names."""
        for output in self.encoder.layers(x):
            yield output
        yield from self.head.layers(output)  # the encoder's last is h
