"""Image files with known pixels. PNGs are written here byte by byte, so that no decoder's own encoder is trusted."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

GRAY, RGB, PALETTE, GRAY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6  # PNG's colour types


def chunk(kind: bytes, data: bytes) -> bytes:
    """A PNG chunk with its checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    rows: list[bytes], *, width: int, bit_depth: int, color_type: int, chunks: bytes = b"", height: int | None = None
) -> bytes:
    """A PNG of unfiltered `rows`; `chunks` stand before the pixels; `height` may lie."""
    header = struct.pack(">IIBBBBB", width, height or len(rows), bit_depth, color_type, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunks + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def row_png(samples: list[int], *, width: int, bit_depth: int, color_type: int, chunks: bytes = b"") -> bytes:
    """A PNG of one row of 8- or 16-bit samples."""
    row = struct.pack(f">{len(samples)}{'B' if bit_depth == 8 else 'H'}", *samples)
    return png([row], width=width, bit_depth=bit_depth, color_type=color_type, chunks=chunks)


def encode(image: Image.Image | NDArray[np.uint8], format_: str, **options: Any) -> bytes:
    """An image as a file by Pillow; WebP is lossless and exact unless `options` say otherwise."""
    if not isinstance(image, Image.Image):
        image = Image.fromarray(image)
    if format_ == "webp":
        options = {"lossless": True, "exact": True, **options}
    file = io.BytesIO()
    image.save(file, format_, **options)
    return file.getvalue()


def noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Random pixels, (height, width, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
