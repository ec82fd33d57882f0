"""Projection heads g: h -> z (Section 4.2, Fig. 8).

Legend: M representations, C size of h, D size of z.

Every depth follows the authors' code (google-research/simclr, model_util.py, `projection_head`): a linear layer has
no bias but a batch norm after it; all but the last end in a ReLU, the last batch norm has a gamma and no beta.
One layer is the paper's linear head, two its MLP, three SimCLR v2's.
"""

from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor, nn

from models.config import Head

KERNEL_STD = 0.01  # the authors' initialisation; z doesn't depend on it but for batch norm's eps


class ProjectionHead(nn.Sequential):
    """A perceptron through layers of the given sizes: (M, C) -> (M, D). Of one size alone, the identity: z = h."""

    def __init__(self, sizes: list[int]) -> None:
        super().__init__()
        self.size = sizes[-1]  # D
        last = len(sizes) - 2
        for i, (in_size, out_size) in enumerate(pairwise(sizes)):
            linear = nn.Linear(in_size, out_size, bias=False)
            nn.init.normal_(linear.weight, std=KERNEL_STD)
            norm = nn.BatchNorm1d(out_size)
            if i == last:
                norm.bias.requires_grad_(False)  # no beta: it stays 0
            self.extend([linear, norm] if i == last else [linear, norm, nn.ReLU()])

    def layers(self, h: Tensor) -> Iterator[Tensor]:
        """Each hidden layer after its ReLU, then z; of the identity nothing: z is h."""
        x = h
        for module in self:
            x = module(x)  # (M, ...)
            if isinstance(module, nn.ReLU):
                yield x
        if len(self):
            yield x


def build_head(config: Head, input_size: int) -> ProjectionHead:
    """The head that a recipe asks for, on an h of `input_size` values; its attribute `size` is z's."""
    if not config.num_layers:
        return ProjectionHead([input_size])
    hidden_sizes = [config.hidden_size or input_size] * (config.num_layers - 1)
    return ProjectionHead([input_size, *hidden_sizes, config.output_size])
