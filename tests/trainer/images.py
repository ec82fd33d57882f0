"""Image files for tests."""

import io

import numpy as np
from PIL import Image


def image_file(seed: int, *, size: tuple[int, int] = (12, 9), format_: str = "PNG") -> bytes:
    """A file of random pixels; another seed gives other bytes, the same seed the same."""
    width, height = size
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format_)
    return buffer.getvalue()


def slow_jpeg(num_scans: int = 1000) -> bytes:
    """A valid progressive JPEG of little size that repeats one of its scans: each costs a pass over all blocks."""
    buffer = io.BytesIO()
    Image.new("RGB", (2000, 2000), "gray").save(buffer, "JPEG", progressive=True)
    content = buffer.getvalue()
    last = content.rindex(b"\xff\xda")  # the last scan: header and data, up to the end mark
    return content[:last] + content[last:-2] * num_scans + content[-2:]
