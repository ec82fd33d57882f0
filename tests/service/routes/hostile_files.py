"""Files that someone may send to do harm, or by mistake, and what each is answered with: its name, bytes and code.

An empty code says that the file is an image and is embedded.
"""

import io
import struct
import zipfile
import zlib

from PIL import Image

from tests.models.image_files import GRAY, GRAY_ALPHA, PALETTE, RGB, RGB_ALPHA, chunk, encode, noise, png, row_png
from tests.models.test_preprocess import DAMAGED_EXIF, PNGS, exif, webp_header
from tests.trainer.images import slow_jpeg

GOOD = {format_: encode(noise(24, 24), format_) for format_ in ("png", "jpeg", "webp")}
SCRIPT = b"<script>alert(1)</script>"


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.png", GOOD["png"])
    return buffer.getvalue()


def _frames(format_: str) -> bytes:
    frames = [Image.fromarray(noise(8, 8, seed)) for seed in range(3)]
    return encode(frames[0], format_, save_all=True, append_images=frames[1:])


def _flipped(content: bytes, position: int) -> bytes:
    return content[:position] + bytes([content[position] ^ 0x10]) + content[position + 1 :]


def _with_text(*, packed_bytes: int) -> bytes:
    """A PNG whose compressed text chunk unpacks to a thousand times its size."""
    text = chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(packed_bytes)))
    return row_png([1, 2, 3], width=1, bit_depth=8, color_type=RGB, chunks=text)


def _comment(size: int) -> bytes:
    return GOOD["jpeg"][:2] + b"\xff\xfe" + struct.pack(">H", size + 2) + bytes(size) + GOOD["jpeg"][2:]


NOT_IMAGES = {
    "one zero": b"\0",
    "text": b"hello",
    "SVG": b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
    "SVG with an entity bomb": b'<!DOCTYPE a [<!ENTITY b "bb">]><svg>&b;</svg>',
    "HTML": b"<!doctype html><img src=x onerror=alert(1)>",
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n(id) run\n",
    "PDF": b"%PDF-1.7\n%%EOF",
    "ZIP": _zip(),
    "ELF": b"\x7fELF" + bytes(60),
    "pickle": b"\x80\x04cos\nsystem\n(S'id'\ntR.",
    "GIF": encode(noise(8, 8), "gif"),
    "BMP": encode(noise(8, 8), "bmp"),
    "TIFF": encode(noise(8, 8), "tiff"),
    "ICO": encode(noise(16, 16), "ico"),
    "PPM": encode(noise(8, 8), "ppm"),
    "JPEG 2000": encode(noise(8, 8), "jpeg2000"),
    "AVIF's start": b"\0\0\0\x20ftypavif" + bytes(20),
    "FLI's start": b"\0\0\0\0\x11\xaf" + bytes(200),
    "PNG's name in capitals": b"\x89png\r\n\x1a\n" + GOOD["png"][8:],
    "PNG behind a space": b" " + GOOD["png"],
    "a RIFF that is sound": b"RIFF\x24\0\0\0WAVEfmt " + bytes(30),
}

DAMAGED = {
    "empty": b"",
    "signature alone, PNG": GOOD["png"][:8],
    "signature alone, JPEG": GOOD["jpeg"][:3],
    "signature alone, WebP": GOOD["webp"][:12],
    **{f"half of a {format_}": content[: len(content) // 2] for format_, content in GOOD.items()},
    **{f"a {format_} without its last bytes": content[:-20] for format_, content in GOOD.items()},
    "a PNG with a flipped bit": _flipped(GOOD["png"], 100),
    "a PNG with a wrong checksum": _flipped(GOOD["png"], 30),
    "a PNG without pixels": png([], width=4, height=4, bit_depth=8, color_type=RGB).replace(b"IDAT", b"iDAT"),
    "a PNG of width 0": png([b""], width=0, bit_depth=8, color_type=RGB),
    "a PNG of 3 bits": png([b"\0"], width=2, bit_depth=3, color_type=GRAY),
    "a PNG of an unknown colour type": png([b"\0"], width=1, bit_depth=8, color_type=5),
    "a palette PNG of 16 bits": png([b"\0\0"], width=1, bit_depth=16, color_type=PALETTE),
    "a JPEG's signature and zeros": b"\xff\xd8\xff" + bytes(500),
    "a JPEG's signature and script": b"\xff\xd8\xff" + SCRIPT * 20,
    "a JPEG that ends in its tables": GOOD["jpeg"][:200],
    "a WebP with a lying length": GOOD["webp"][:4] + b"\xff\xff\xff\x7f" + GOOD["webp"][8:],
    "a WebP header alone": webp_header(b"VP8L", 16, 16),
    "a text bomb in a PNG": _with_text(packed_bytes=20_000_000),
}

TOO_LARGE = {
    "a PNG of 60,000 x 60,000": png([], width=60_000, height=60_000, bit_depth=8, color_type=RGB),
    "a PNG of 2 ** 31 - 1 columns": png([], width=2**31 - 1, height=1, bit_depth=8, color_type=RGB),
    "a PNG of one column too many": png([], width=4_001, height=1, bit_depth=8, color_type=GRAY),
    "a 1-bit PNG of a column too many": encode(Image.new("1", (2_001, 2_000)), "png"),
    "a flat JPEG over the pixels": encode(Image.new("L", (2_100, 2_000)), "jpeg"),
    "a WebP canvas of 2 ** 24 x 2 ** 24": webp_header(b"VP8X", 2**24, 2**24),
    "a lossless WebP of 16,384 x 16,384": webp_header(b"VP8L", 16_384, 16_384),
    "a lossy WebP of 16,383 x 16,383": webp_header(b"VP8 ", 16_383, 16_383),
}

ANIMATED = {"an animated PNG": _frames("png"), "an animated WebP": _frames("webp")}

SLOW = {"a JPEG of a thousand scans": slow_jpeg()}

STRANGE = {
    **{f"PNG, {name}": content for name, (content, _) in PNGS.items()},
    "RGBA of nothing": row_png([9, 9, 9, 0], width=1, bit_depth=8, color_type=RGB_ALPHA),
    "gray and alpha of nothing": row_png([9, 0], width=1, bit_depth=8, color_type=GRAY_ALPHA),
    "CMYK": encode(Image.new("CMYK", (9, 9), (9, 90, 200, 30)), "jpeg"),
    "gray JPEG": encode(Image.new("L", (9, 9), 90), "jpeg"),
    "progressive JPEG": encode(noise(24, 24), "jpeg", progressive=True),
    "several pictures in a JPEG": encode(
        Image.fromarray(noise(8, 8)), "mpo", save_all=True, append_images=[Image.new("RGB", (8, 8))]
    ),
    "one pixel": encode(noise(1, 1), "png"),
    "a line of 4,000 pixels": encode(noise(1, 4_000), "png"),
    "a column of 4,000 pixels": encode(noise(4_000, 1), "png"),
    "EXIF on its side": encode(noise(8, 16), "jpeg", exif=exif(6)),
    "EXIF of no meaning": encode(noise(8, 16), "jpeg", exif=exif(65_535)),
    "damaged EXIF": encode(noise(8, 16), "jpeg", exif=DAMAGED_EXIF),
    "a colour profile of junk": encode(noise(8, 8), "png", icc_profile=b"junk" * 40),
    "a long comment": _comment(60_000),
    "script behind a PNG": GOOD["png"] + SCRIPT,
    "script behind a JPEG": GOOD["jpeg"] + SCRIPT,
    "an archive behind a PNG": GOOD["png"] + _zip(),
    "script as a PNG's text": row_png(
        [1], width=1, bit_depth=8, color_type=GRAY, chunks=chunk(b"tEXt", b"k\0" + SCRIPT)
    ),
}

FILES: dict[str, tuple[bytes, str]] = {
    name: (content, code)
    for code, files in (
        ("unsupported_format", NOT_IMAGES),
        ("undecodable", DAMAGED),
        ("too_large", TOO_LARGE),
        ("animated", ANIMATED),
        ("decode_timeout", SLOW),
        ("", STRANGE),
    )
    for name, content in files.items()
}
STATUSES = {"": 200, "too_large": 413}  # 422 of any other code
