"""From the bytes of an image file to the encoder's input: the one definition, for training, indexing and queries.

Legend: H, W the image's height and width, S side of the encoder's input.

Version 2 decodes the first and only frame to 8-bit RGB:
- A JPEG is decoded at a half, a quarter or an eighth where that leaves the storage side (docs/decisions/0015).
- EXIF orientation is applied; a value outside 1..8 or unreadable EXIF counts as upright. XMP is not read.
- Transparency is composited over white.
- 16-bit samples keep their high byte. Fewer bits, palettes and CMYK become RGB by Pillow's conversion.
- ICC profiles and PNG's gamma are ignored: samples are taken as sRGB.
Any change of these rules needs a new PREPROCESSING_VERSION: vectors of two versions can't be compared.
"""

import struct
import threading
import warnings
import zlib
from dataclasses import dataclass
from io import BytesIO
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from models.config import Preprocessing

PREPROCESSING_VERSION = 2

Format = Literal["jpeg", "png", "webp"]
Pixels = NDArray[np.uint8] | Image.Image  # (H, W, 3), or Pillow's RGB
Code = Literal["undecodable", "too_large", "animated", "unsupported_format"]

# What Pillow raises on damaged files; UnidentifiedImageError is an OSError.
DAMAGED = (
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    LookupError,
    TypeError,
    ArithmeticError,
    struct.error,
    zlib.error,
)

TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # EXIF orientation -> what turns the stored pixels upright
SIDEWAYS = range(5, 9)  # orientations that change width and height over
DCT_FACTORS = (1, 2, 4, 8)

_one_at_a_time = threading.Lock()


class UndecodableImage(ValueError):
    """These bytes are no image that the service takes; `code` is stable, `detail` is for people."""

    def __init__(self, code: Code, detail: str) -> None:
        super().__init__(code, detail)  # both, so that it survives pickling between processes
        self.code = code
        self.detail = detail

    def __str__(self) -> str:
        return self.detail


@dataclass(frozen=True)
class ImageLimits:
    """The largest image that is decoded."""

    max_bytes: int  # of the file
    max_pixels: int  # width times height
    max_side: int


@dataclass(frozen=True)
class DecodedImage:
    """An upright RGB image with the format and the size of its file, of which it may be a reduction.

    `image` is for `to_storage` and `to_input`: an array between two of Pillow's operations costs a fifth of them. It
    may still have the file's metadata, so it is not for saving.
    """

    image: Image.Image
    format: Format
    height: int
    width: int

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """A new array, (H, W, 3) uint8."""
        return np.array(self.image)


def decode(content: bytes, limits: ImageLimits, storage_side: int | None = None) -> DecodedImage:
    """The image in a JPEG, PNG or WebP file, told by its content; sizes are checked before pixels are decoded.

    Give the `storage_side` of what `to_storage` or `to_input` is to make of it; without it, all pixels come.
    Raises UndecodableImage. Threads of one process take turns, because a filter for Pillow's warnings belongs to the
    whole process before Python 3.14: decode in parallel with processes.
    """
    if len(content) > limits.max_bytes:
        raise UndecodableImage("too_large", f"{len(content)} bytes; at most {limits.max_bytes}")
    format_ = _sniff(content)
    with _one_at_a_time, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return _decode(content, format_, limits, storage_side)
        except UndecodableImage:
            raise
        except Image.DecompressionBombError as error:  # where the caller's limits are above Pillow's own
            raise UndecodableImage("too_large", str(error)) from error
        except DAMAGED as error:
            raise UndecodableImage("undecodable", f"a damaged or truncated {format_} file") from error


def to_storage(pixels: Pixels, storage_side: int) -> NDArray[np.uint8]:
    """An image whose shorter side is longer than `storage_side` reduced to it, (H, W, 3) uint8; others unchanged."""
    return np.array(_to_storage(_image(pixels), storage_side))


def to_input(pixels: Pixels, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """The encoder's input of a decoded image, (H, W, 3) -> (S, S, 3) uint8; the same for a stored one.

    The shorter side is brought to round(S / crop_fraction), up or down, and the centre is cut out; both in one
    resampling of the centre, since the whole of a 1 x 10,000 image would be enlarged to gigabytes.
    """
    image = _to_storage(_image(pixels), preprocessing.storage_side)
    size = preprocessing.image_size
    side = min(image.size) * size / round(size / preprocessing.crop_fraction)  # of the centre, in stored pixels
    left, top = (image.width - side) / 2, (image.height - side) / 2
    if side == size:
        image, left, top = _without_margins(image, size, left, top)
    box = (left, top, left + side, top + side)
    return np.array(image.resize((size, size), Image.Resampling.BICUBIC, box))


def _without_margins(image: Image.Image, size: int, left: float, top: float) -> tuple[Image.Image, float, float]:
    """The image cut where a square at `left`, `top` begins on a whole pixel, and where the square is then.

    Pillow would resample along that axis, too, to the same pixels.
    """
    x, width = (int(left), size) if left.is_integer() else (0, image.width)
    y, height = (int(top), size) if top.is_integer() else (0, image.height)
    return image.crop((x, y, x + width, y + height)), left - x, top - y


def _to_storage(image: Image.Image, storage_side: int) -> Image.Image:
    shorter = min(image.size)
    if shorter <= storage_side:
        return image
    size = round(image.width * storage_side / shorter), round(image.height * storage_side / shorter)
    return image.resize(size, Image.Resampling.BICUBIC)


def _image(pixels: Pixels) -> Image.Image:
    return pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)


def _sniff(content: bytes) -> Format:
    if content.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return "webp"
    if not content:
        raise UndecodableImage("undecodable", "the file is empty")
    raise UndecodableImage("unsupported_format", "not a JPEG, PNG or WebP file")


def _decode(content: bytes, format_: Format, limits: ImageLimits, storage_side: int | None) -> DecodedImage:
    if format_ == "webp":
        _check_size(_webp_canvas(content), limits)
    with _open(content, format_) as image:
        _check_size(image.size, limits)
        # Of a JPEG with several pictures (MPO: burst, depth or gain map), the first is the photograph.
        if format_ != "jpeg" and getattr(image, "n_frames", 1) > 1:
            raise UndecodableImage("animated", "an animation; only still images are taken")
        if format_ == "png":
            with _open(content, format_) as other:
                other.verify()  # loading alone skips the checksums of the pixels, and verifying spoils the image
            _scale_transparent_color(image, bit_depth=content[24])
        width, height = image.size
        if format_ == "jpeg" and storage_side is not None:
            _reduce(image, storage_side)
        image.load()
        rgb = _to_rgb(image)
        orientation = _orientation(image)
        turn = TRANSPOSITIONS.get(orientation)
        if turn is not None:  # the first is 0
            rgb = rgb.transpose(turn)
            if orientation in SIDEWAYS:
                width, height = height, width
        return DecodedImage(rgb, format_, height, width)


def _reduce(image: Image.Image, storage_side: int) -> None:
    """Have a JPEG decoded from the low frequencies of its blocks alone, where its shorter side stays long enough."""
    shorter = min(image.size)
    factor = max((factor for factor in DCT_FACTORS if shorter // factor >= storage_side), default=1)
    image.draft(None, (image.width // factor, image.height // factor))  # the mode stays


def _open(content: bytes, format_: Format) -> Image.Image:
    return Image.open(BytesIO(content), formats=(format_.upper(),))


def _check_size(size: tuple[int, int], limits: ImageLimits) -> None:
    width, height = size
    if max(size) > limits.max_side or width * height > limits.max_pixels:
        raise UndecodableImage(
            "too_large", f"{width} x {height} pixels; at most {limits.max_pixels}, and {limits.max_side} a side"
        )


def _webp_canvas(content: bytes) -> tuple[int, int]:
    """Width and height by the header of a WebP file (RFC 9649): Pillow allocates the canvas when it opens one."""
    kind = content[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(content[24:27], "little"), 1 + int.from_bytes(content[27:30], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(content[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return int.from_bytes(content[26:28], "little") & 0x3FFF, int.from_bytes(content[28:30], "little") & 0x3FFF


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, or 1 (upright) where there is none that can be read."""
    exif = Image.Exif()
    try:
        exif.load(image.info.get("exif", b""))
        value = exif.get(ExifTags.Base.Orientation)
    except DAMAGED:
        return 1
    return value if isinstance(value, int) else 1


def _scale_transparent_color(image: Image.Image, *, bit_depth: int) -> None:
    """Bring a PNG's transparent colour from the file's bits to the 8 bits of the pixels, which Pillow leaves out.

    Of 16-bit RGB only the high bytes are left to compare, so colours that share them turn transparent together.
    """
    color = image.info.get("transparency")
    if color is None:
        return
    if image.mode == "L":
        highest = 2**bit_depth - 1
        image.info["transparency"] = (color & highest) * 255 // highest
    elif image.mode == "RGB" and bit_depth == 16:
        image.info["transparency"] = tuple(sample >> 8 for sample in color)


def _to_rgb(image: Image.Image) -> Image.Image:
    """Any mode to RGB, over white."""
    if image.mode == "I;16":
        image = _high_bytes(image)
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")  # which copies what is RGB already
    rgba = image if image.mode == "RGBA" else image.convert("RGBA")
    white = Image.new("RGB", image.size, "white")
    white.paste(rgba, mask=rgba)
    return white


def _high_bytes(image: Image.Image) -> Image.Image:
    """16-bit gray to 8 bits as Pillow reduces 16-bit RGB; its own conversion of gray saturates."""
    values = np.asarray(image)  # (H, W) uint16
    gray = Image.fromarray((values >> 8).astype(np.uint8))
    if "transparency" in image.info:
        opaque = values != image.info["transparency"]
        gray.putalpha(Image.fromarray(opaque.astype(np.uint8) * 255))
    return gray
