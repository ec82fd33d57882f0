"""The layers of a network that can be probed, by name and in the order in which an image passes them.

    stem                the ResNet's stem, after its ReLU and max-pool                        mean over the positions
    layer1.0 ...        each residual block, but for the last, whose mean is h                mean over the positions
    blocks.0 ...        each block of the ViT, but for the last, whose normalised token is h  the class token
    h                   the encoder's output
    g1, g2              the hidden layers of the projection head g, after their ReLU
    z                   the head's output; of a head without layers it would be h again, and isn't listed

Blocks are named as the modules of the encoder. Nothing here imports torch: the API checks a layer's name too.
"""

from collections.abc import Sequence

from models.config import Head, PretrainRecipe

RESNET_BLOCKS: dict[str, tuple[int, int, int, int]] = {  # of each stage
    "resnet10": (1, 1, 1, 1),
    "resnet18": (2, 2, 2, 2),
    "resnet34": (3, 4, 6, 3),
    "resnet50": (3, 4, 6, 3),
    "resnet101": (3, 4, 23, 3),
    "resnet152": (3, 8, 36, 3),
}
VIT_BLOCKS = 12


def layer_names(recipe: PretrainRecipe) -> tuple[str, ...]:
    """The layers of the network that a recipe asks for, first to last."""
    return (*_before_h(recipe.encoder.name), "h", *_after_h(recipe.head))


def unknown_layer(recipe: PretrainRecipe, layers: Sequence[str]) -> str | None:
    """What is wrong with `layers` for this network, or None if it has them all."""
    names = layer_names(recipe)
    if unknown := [layer for layer in layers if layer not in names]:
        return f"one of the model's layers, {', '.join(names)}; not {', '.join(map(repr, unknown))}"
    return None


def _before_h(encoder: str) -> tuple[str, ...]:
    if encoder in RESNET_BLOCKS:
        blocks = [f"layer{i}.{j}" for i, number in enumerate(RESNET_BLOCKS[encoder], 1) for j in range(number)]
        return ("stem", *blocks[:-1])
    if encoder == "vit_small":
        return tuple(f"blocks.{i}" for i in range(VIT_BLOCKS - 1))
    return ()  # raw pixels


def _after_h(head: Head) -> tuple[str, ...]:
    return (*(f"g{i}" for i in range(1, head.num_layers)), "z") if head.num_layers else ()
