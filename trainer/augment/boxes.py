"""Where views are cut out of images.

Legend: N images, B views of each. Boxes are top, left, height and width in pixels, (B, N) int64 each; images' heights
and widths are (N,), or one number for all.
"""

import numpy as np

from models.config import Augmentation
from trainer.augment.draws import Integers, Stream, uniform

NUM_TRIES = 10  # as torchvision's RandomResizedCrop

Boxes = tuple[Integers, Integers, Integers, Integers]


def random_boxes(config: Augmentation, stream: Stream, heights: Integers | int, widths: Integers | int) -> Boxes:
    """As torchvision's RandomResizedCrop: the first try that fits, else the largest centred crop of a legal ratio."""
    columns = stream.columns(2 + 2 * NUM_TRIES)
    at_y, at_x = columns[:2]
    area = heights * widths * uniform(columns[2::2], *config.crop_area)  # (NUM_TRIES, B, N)
    ratio = np.exp(uniform(columns[3::2], *np.log(config.crop_ratio)))
    tried_widths, tried_heights = np.rint(np.sqrt(area * ratio)), np.rint(np.sqrt(area / ratio))
    fits = (tried_widths > 0) & (tried_widths <= widths) & (tried_heights > 0) & (tried_heights <= heights)
    first = fits.argmax(0, keepdims=True)  # (1, B, N)
    found = fits.any(0)
    low, high = config.crop_ratio
    widest = np.minimum(widths, np.rint(heights * high))
    tallest = np.minimum(heights, np.rint(widths / low))
    width = np.where(found, np.take_along_axis(tried_widths, first, 0)[0], widest).astype(np.int64)
    height = np.where(found, np.take_along_axis(tried_heights, first, 0)[0], tallest).astype(np.int64)
    free_y, free_x = heights - height, widths - width
    top = np.where(found, (at_y * (free_y + 1)).astype(np.int64), free_y // 2)
    left = np.where(found, (at_x * (free_x + 1)).astype(np.int64), free_x // 2)
    return top, left, height, width


def centred_boxes(heights: Integers, widths: Integers) -> Boxes:
    """The largest centred square of every image, one for both views, B = 1."""
    side = np.minimum(heights, widths)
    return ((heights - side) // 2)[None], ((widths - side) // 2)[None], side[None], side[None]
