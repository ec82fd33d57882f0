"""Images whose neighbours are known: a model whose h is the image itself sees three families of shades."""

import numpy as np
from numpy.typing import NDArray

SIDE = 8
NUMBER = 8  # of a family
FAMILIES = {"red": (230, 30, 30), "green": (30, 230, 30), "blue": (30, 30, 230)}


def shades() -> dict[str, NDArray[np.uint8]]:
    """Images by name: of each family some with noise of their own, and of red-0 a copy that differs in one pixel."""
    rng = np.random.default_rng(0)
    made = {}
    for family, colour in FAMILIES.items():
        for i in range(NUMBER):
            noisy = np.array(colour) + rng.normal(0, 45, (SIDE, SIDE, 3))
            made[f"{family}-{i}.png"] = noisy.clip(0, 255).astype(np.uint8)
    copy = made["red-0.png"].copy()
    copy[0, 0] = 0
    made["red-copy.png"] = copy
    return made
