"""A small labelled image set for machines without a network: ten shapes and textures on cluttered grounds.

Colours, sizes, positions, turns and lighting are drawn independently of the class, so that pixels and colour
histograms say little about it and a representation has to see form.

Legend: N images, S their side.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

SIDE = 32
Field = NDArray[np.float32]
Mask = NDArray[np.bool_]
Random = np.random.Generator


def _disc(u: Field, v: Field) -> Mask:
    return u * u + v * v < 0.9**2


def _ring(u: Field, v: Field) -> Mask:
    return (u * u + v * v > 0.55**2) & (u * u + v * v < 0.95**2)


def _square(u: Field, v: Field) -> Mask:
    return np.maximum(np.abs(u), np.abs(v)) < 0.8


def _triangle(u: Field, v: Field) -> Mask:
    return (v < 0.55) & (np.abs(u) * 3**0.5 / 2 - v / 2 < 0.55)  # three half-planes at equal distance


def _cross(u: Field, v: Field) -> Mask:
    return (np.minimum(np.abs(u), np.abs(v)) < 0.27) & (np.maximum(np.abs(u), np.abs(v)) < 1)


def _star(u: Field, v: Field) -> Mask:
    spikes = np.abs((np.arctan2(v, u) * 5 / (2 * np.pi)) % 1 - 0.5) * 2  # 1 at a tip, 0 between two
    return np.hypot(u, v) < 0.4 + 0.7 * spikes**1.5


def _stripes(_u: Field, v: Field) -> Mask:
    return np.sin(v * 5) > 0


def _columns(u: Field, _v: Field) -> Mask:
    return np.sin(u * 5) > 0


def _checker(u: Field, v: Field) -> Mask:
    return np.sin(u * 4) * np.sin(v * 4) > 0


def _dots(u: Field, v: Field) -> Mask:
    return np.sin(u * 5) + np.sin(v * 5) > 0.9


SHAPES: dict[str, Callable[[Field, Field], Mask]] = {
    "checker": _checker,
    "columns": _columns,
    "cross": _cross,
    "disc": _disc,
    "dots": _dots,
    "ring": _ring,
    "square": _square,
    "star": _star,
    "stripes": _stripes,
    "triangle": _triangle,
}
UPRIGHT = ("columns", "stripes")  # they differ by their direction alone


def draw(name: str, num_images: int, random: Random) -> NDArray[np.uint8]:
    """Images of one class, (N, S, S, 3) uint8; the same for the same state of `random`."""
    ground, figure = _colors(num_images, random)
    mask = _mask(name, num_images, random)[..., None]  # (N, S, S, 1)
    image = np.where(mask, figure, _clutter(ground, random))  # (N, S, S, 3)
    image = image * _lighting(num_images, random)[..., None]
    image += random.normal(0, 0.04, image.shape)
    return (image.clip(0, 1) * 255).round().astype(np.uint8)


def _uniform(random: Random, low: float, high: float, num_images: int) -> Field:
    return random.uniform(low, high, (num_images, 1, 1)).astype(np.float32)


def _grid() -> tuple[Field, Field]:
    """Across (1, 1, S) and down (1, S, 1), in [-1, 1]."""
    axis = np.linspace(-1, 1, SIDE, dtype=np.float32)
    return axis[None, None, :], axis[None, :, None]


def _mask(name: str, num_images: int, random: Random) -> Mask:
    """Where the figure is, (N, S, S)."""
    x, y = _grid()
    shift_x, shift_y = (_uniform(random, -0.4, 0.4, num_images) for _ in range(2))
    turn = _uniform(random, -0.2, 0.2, num_images) if name in UPRIGHT else _uniform(random, 0, 2 * np.pi, num_images)
    scale = _uniform(random, 0.4, 0.9, num_images)
    x, y = (x - shift_x) / scale, (y - shift_y) / scale
    return SHAPES[name](x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn))


def _colors(num_images: int, random: Random) -> tuple[Field, Field]:
    """Colours of ground and figure, (N, 1, 1, 3), apart by at least 0.35 in brightness."""
    dark, bright = random.uniform(0, 0.5, (num_images, 3)), random.uniform(0.5, 1, (num_images, 3))
    swapped = random.random((num_images, 1)) < 0.5
    ground, figure = np.where(swapped, bright, dark), np.where(swapped, dark, bright)
    return ground.astype(np.float32)[:, None, None], figure.astype(np.float32)[:, None, None]


def _clutter(ground: Field, random: Random) -> Field:
    """The ground with six soft-edged bars of near colours, (N, S, S, 3)."""
    num_images = len(ground)
    x, y = _grid()
    image = np.broadcast_to(ground, (num_images, SIDE, SIDE, 3)).copy()
    for _ in range(6):
        turn = _uniform(random, 0, np.pi, num_images)
        offset, width = _uniform(random, -1, 1, num_images), _uniform(random, 0.05, 0.25, num_images)
        along = x * np.sin(turn) - y * np.cos(turn) + _uniform(random, -1, 1, num_images)
        across = x * np.cos(turn) + y * np.sin(turn) - offset
        bar = (np.abs(across) < width) & (np.abs(along) < 0.7)
        image += bar[..., None] * random.uniform(-0.4, 0.4, (num_images, 1, 1, 3)).astype(np.float32)
    return image


def _lighting(num_images: int, random: Random) -> Field:
    """A linear gradient of brightness, (N, S, S)."""
    x, y = _grid()
    turn = _uniform(random, 0, 2 * np.pi, num_images)
    return 1 - _uniform(random, 0, 0.35, num_images) * (x * np.cos(turn) + y * np.sin(turn))
