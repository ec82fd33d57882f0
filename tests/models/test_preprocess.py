"""Decoding against pixels known from the files' bytes, resampling against the convolution written as loops."""

import io
import math
import pickle
import struct
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from models.config import Preprocessing
from models.preprocess import DecodedImage, ImageLimits, UndecodableImage, decode, to_input, to_storage
from tests.models.image_files import (
    GRAY,
    GRAY_ALPHA,
    PALETTE,
    RGB,
    RGB_ALPHA,
    chunk,
    encode,
    noise,
    png,
    row_png,
)

LIMITS = ImageLimits(max_bytes=2**20, max_pixels=100_000, max_side=2_000)
WHITE = [255, 255, 255]


def pixels(content: bytes) -> list[list[list[int]]]:
    return decode(content, LIMITS).pixels.tolist()


def refusal(content: bytes, limits: ImageLimits = LIMITS) -> str:
    with pytest.raises(UndecodableImage) as refused:
        decode(content, limits)
    return refused.value.code


def transparent(*samples: int) -> bytes:
    """The tRNS chunk of a gray or RGB image."""
    return chunk(b"tRNS", struct.pack(f">{len(samples)}H", *samples))


PNGS: dict[str, tuple[bytes, list[list[int]]]] = {
    "1-bit": (png([b"\x40"], width=2, bit_depth=1, color_type=GRAY), [[0, 0, 0], WHITE]),
    "1-bit, black transparent": (
        png([b"\x40"], width=2, bit_depth=1, color_type=GRAY, chunks=transparent(0)),
        [WHITE, WHITE],
    ),
    "2-bit": (png([b"\x1b"], width=4, bit_depth=2, color_type=GRAY), [[v] * 3 for v in (0, 85, 170, 255)]),
    "2-bit, 1 transparent": (
        png([b"\x1b"], width=4, bit_depth=2, color_type=GRAY, chunks=transparent(1)),
        [[v] * 3 for v in (0, 255, 170, 255)],
    ),
    "4-bit, 9 transparent": (
        png([b"\x19"], width=2, bit_depth=4, color_type=GRAY, chunks=transparent(9)),
        [[17, 17, 17], WHITE],
    ),
    "gray": (row_png([0, 7, 255], width=3, bit_depth=8, color_type=GRAY), [[0] * 3, [7] * 3, WHITE]),
    "gray, 7 transparent": (
        row_png([0, 7], width=2, bit_depth=8, color_type=GRAY, chunks=transparent(7)),
        [[0] * 3, WHITE],
    ),
    "16-bit gray": (
        row_png([0x00FF, 0x0100, 0x1234, 0xFFFF], width=4, bit_depth=16, color_type=GRAY),
        [[v] * 3 for v in (0x00, 0x01, 0x12, 0xFF)],
    ),
    "16-bit gray, one of two with the same high byte transparent": (
        row_png([0x1234, 0x1235], width=2, bit_depth=16, color_type=GRAY, chunks=transparent(0x1234)),
        [WHITE, [0x12] * 3],
    ),
    "gray and alpha": (
        row_png([10, 0, 10, 255, 10, 51], width=3, bit_depth=8, color_type=GRAY_ALPHA),
        [WHITE, [10] * 3, [206] * 3],  # 10 / 5 + 255 * 4 / 5
    ),
    "16-bit gray and alpha": (
        row_png([0x1234, 0xFFFF, 0x0AFF, 0x33FF], width=2, bit_depth=16, color_type=GRAY_ALPHA),
        [[0x12] * 3, [206] * 3],
    ),
    "RGB": (row_png([1, 2, 3, 250, 251, 252], width=2, bit_depth=8, color_type=RGB), [[1, 2, 3], [250, 251, 252]]),
    "RGB, one colour transparent": (
        row_png([1, 2, 3, 1, 2, 4], width=2, bit_depth=8, color_type=RGB, chunks=transparent(1, 2, 3)),
        [WHITE, [1, 2, 4]],
    ),
    "16-bit RGB": (row_png([0x12FF, 0x0100, 0xFFFE], width=1, bit_depth=16, color_type=RGB), [[0x12, 0x01, 0xFF]]),
    "16-bit RGB, one colour transparent": (
        row_png(
            [0x1234, 0x0001, 0x0002, 0x1334, 0x0001, 0x0002],
            width=2,
            bit_depth=16,
            color_type=RGB,
            chunks=transparent(0x1234, 0x0001, 0x0002),
        ),
        [WHITE, [0x13, 0, 0]],
    ),
    "RGBA": (
        row_png([200, 100, 0, 0, 200, 100, 0, 255, 200, 100, 0, 51], width=3, bit_depth=8, color_type=RGB_ALPHA),
        [WHITE, [200, 100, 0], [244, 224, 204]],
    ),
    "16-bit RGBA": (
        row_png([0xC8FF, 0x64FF, 0x00FF, 0x33FF], width=1, bit_depth=16, color_type=RGB_ALPHA),
        [[244, 224, 204]],
    ),
    "palette": (
        png(
            [b"\x01\x00"],
            width=2,
            bit_depth=8,
            color_type=PALETTE,
            chunks=chunk(b"PLTE", bytes([1, 2, 3, 4, 5, 6])),
        ),
        [[4, 5, 6], [1, 2, 3]],
    ),
    "palette with one transparent entry": (
        png(
            [b"\x01\x00"],
            width=2,
            bit_depth=8,
            color_type=PALETTE,
            chunks=chunk(b"PLTE", bytes([1, 2, 3, 4, 5, 6])) + chunk(b"tRNS", b"\xff\x00"),
        ),
        [WHITE, [1, 2, 3]],
    ),
    "2-bit palette with alpha": (
        png(
            [b"\x10"],
            width=2,
            bit_depth=2,
            color_type=PALETTE,
            chunks=chunk(b"PLTE", bytes([200, 100, 0, 4, 5, 6])) + chunk(b"tRNS", b"\x33"),
        ),
        [[244, 224, 204], [4, 5, 6]],
    ),
}


@pytest.mark.parametrize("name", PNGS)
def test_every_kind_of_png_has_one_result(name: str) -> None:
    """Each kind of PNG decodes to exactly the pixels that its bytes, high bytes and a white ground give."""
    content, expected = PNGS[name]
    image = decode(content, LIMITS)
    assert image.pixels.tolist() == [expected]
    assert (image.format, image.width, image.height) == ("png", len(expected), 1)
    assert image.pixels.dtype == np.uint8


def test_alpha_is_composited_over_white_exactly() -> None:
    """For each value c and alpha a, the result is c a + 255 (255 - a), over 255, rounded to the nearest."""
    c, a = np.meshgrid(np.arange(256), np.arange(256))  # (256, 256)
    rgba = np.stack([c, c, c, a], axis=2).astype(np.uint8)
    expected = np.rint((c * a + 255 * (255 - a)) / 255)
    for format_ in ("png", "webp"):
        result = decode(encode(rgba, format_), LIMITS).pixels
        assert (result == expected[:, :, None]).all(), format_


def test_lossless_webp_is_exact() -> None:
    """A lossless WebP decodes to the pixels that were encoded."""
    image = decode(encode(noise(13, 17), "webp"), LIMITS)
    assert (image.pixels == noise(13, 17)).all()
    assert (image.format, image.width, image.height) == ("webp", 17, 13)


@pytest.mark.parametrize(
    ("mode", "color", "expected"),
    [
        ("L", 90, (90, 90, 90)),
        ("RGB", (200, 100, 50), (200, 100, 50)),
        ("CMYK", (0, 255, 255, 0), (255, 0, 0)),
        ("CMYK", (51, 102, 0, 51), (163, 122, 204)),  # (255 - ink) (255 - black) / 255
    ],
)
def test_jpeg_color(mode: str, color: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """A JPEG of one colour decodes to it, but for the rounding of the JPEG's colour space."""
    image = decode(encode(Image.new(mode, (16, 8), color), "jpeg", quality=100), LIMITS)
    assert (image.format, image.width, image.height) == ("jpeg", 16, 8)
    np.testing.assert_allclose(image.pixels.astype(int), np.broadcast_to(expected, (8, 16, 3)), atol=2)


def test_jpeg_ycck() -> None:
    """An Adobe JPEG whose four channels are YCbCr and black decodes by that transform."""
    y, cb, cr, k = 100, 90, 170, 204  # as stored, where 255 is no ink
    stored = Image.new("CMYK", (16, 8), (255 - y, 255 - cb, 255 - cr, 255 - k))
    content = bytearray(encode(stored, "jpeg", quality=100))
    transform = content.index(b"Adobe") + 11
    assert content[transform] == 0
    content[transform] = 2
    ink = (y + 1.402 * (cr - 128), y - 0.344136 * (cb - 128) - 0.714136 * (cr - 128), y + 1.772 * (cb - 128))
    expected = [(255 - value) * k / 255 for value in ink]
    result = decode(bytes(content), LIMITS).pixels
    np.testing.assert_allclose(result.astype(float), np.broadcast_to(expected, (8, 16, 3)), atol=2)


@pytest.mark.parametrize("format_", ["jpeg", "webp"])
def test_lossy_formats_are_deterministic(format_: str) -> None:
    """The same lossy file decodes to the same pixels each time, within 25 levels of a smooth original."""
    ramp = np.add.outer(np.arange(40) * 3, np.arange(50) * 2).astype(np.uint8)[:, :, None].repeat(3, axis=2)
    content = encode(ramp, format_, **({"lossless": False} if format_ == "webp" else {}))
    first, second = decode(content, LIMITS).pixels, decode(content, LIMITS).pixels
    assert (first == second).all()
    assert np.abs(first.astype(int) - ramp).max() <= 25


# EXIF's definition of the values: which side of the scene the stored first row and first column are.
UPRIGHT = {
    1: lambda a: a,  # top, left
    2: lambda a: a[:, ::-1],  # top, right
    3: lambda a: a[::-1, ::-1],  # bottom, right
    4: lambda a: a[::-1],  # bottom, left
    5: lambda a: a.swapaxes(0, 1),  # left, top
    6: lambda a: a[::-1].swapaxes(0, 1),  # right, top
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),  # right, bottom
    8: lambda a: a[:, ::-1].swapaxes(0, 1),  # left, bottom
}


def exif(orientation: int) -> bytes:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


@pytest.mark.parametrize("format_", ["jpeg", "png", "webp"])
@pytest.mark.parametrize("orientation", [*range(10), 65535])
def test_exif_orientation(format_: str, orientation: int) -> None:
    """Orientations 1 to 8 turn the image upright; any other value leaves it as it is."""
    stored = decode(encode(noise(8, 16), format_), LIMITS).pixels
    image = decode(encode(noise(8, 16), format_, exif=exif(orientation)), LIMITS)
    expected = UPRIGHT.get(orientation, UPRIGHT[1])(stored)
    assert (image.height, image.width) == expected.shape[:2]
    assert (image.pixels == expected).all()


def test_exif_after_the_pixels() -> None:
    """A PNG may carry its EXIF chunk behind the pixels."""
    content = row_png([1, 2], width=2, bit_depth=8, color_type=GRAY)
    tail = content.index(b"IEND") - 4
    content = content[:tail] + chunk(b"eXIf", exif(2).removeprefix(b"Exif\0\0")) + content[tail:]
    assert pixels(content) == [[[2] * 3, [1] * 3]]


DAMAGED_EXIF = b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\x0f\x01\x02\0\xff\0\0\0\xff\xff\0\0"


def test_pillow_warnings_stay_inside(recwarn: pytest.WarningsRecorder) -> None:
    """A file for which Pillow warns decodes without a warning, and the process's filters are as they were."""
    content = encode(noise(8, 16), "jpeg", exif=DAMAGED_EXIF)
    with warnings.catch_warnings(record=True) as by_pillow, Image.open(io.BytesIO(content)) as image:
        image.getexif()
    assert by_pillow
    filters = list(warnings.filters)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: decode(content, LIMITS), range(64)))
    assert warnings.filters == filters
    assert not recwarn.list


@pytest.mark.parametrize("junk", [b"", b"Exif\0\0", b"Exif\0\0junk", b"Exif\0\0II*\0\xff\xff\xff\xff"])
def test_unreadable_exif_is_ignored(junk: bytes) -> None:
    """EXIF that can't be read counts as upright."""
    assert (decode(encode(noise(8, 16), "webp", exif=junk), LIMITS).pixels == noise(8, 16)).all()


def test_color_profiles_and_gamma_are_ignored() -> None:
    """A profile or a gamma changes no pixel: samples are taken as sRGB."""
    plain = encode(noise(8, 8), "png")
    profile = bytes(128) + b"a profile"
    start = plain.index(b"IHDR") + 4 + 13 + 4
    gamma = plain[:start] + chunk(b"gAMA", struct.pack(">I", 100_000)) + plain[start:]
    assert pixels(encode(noise(8, 8), "png", icc_profile=profile)) == pixels(plain) == pixels(gamma)
    jpeg = encode(noise(8, 8), "jpeg")
    assert pixels(encode(noise(8, 8), "jpeg", icc_profile=profile)) == pixels(jpeg)


def test_a_large_jpeg_is_decoded_reduced() -> None:
    """At an eighth, a pixel is the mean of its block of 8 x 8, which is the block's lowest frequency."""
    ramp = np.add.outer(np.arange(264) * 0.4, np.arange(400) * 0.2) + 30
    colors = np.stack([ramp, 255 - ramp, ramp / 2 + 60], axis=2).astype(np.uint8)
    content = encode(colors, "jpeg", quality=95, subsampling=0)
    limits = ImageLimits(2**20, 10**6, 2_000)
    whole = decode(content, limits).pixels
    image = decode(content, limits, storage_side=33)
    assert (image.pixels.shape, image.height, image.width) == ((33, 50, 3), 264, 400)
    means = whole.reshape(33, 8, 50, 8, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(image.pixels.astype(float), means, atol=2.5)  # rounding, before and after the colours


@pytest.mark.parametrize(
    ("storage_side", "height"), [(None, 264), (264, 264), (133, 264), (132, 132), (67, 132), (66, 66), (33, 33)]
)
def test_no_reduction_goes_below_the_storage_side(storage_side: int | None, height: int) -> None:
    """The largest of 1/2, 1/4 and 1/8 that leaves the shorter side; also of an image on its side, gray, or CMYK."""
    limits = ImageLimits(2**20, 10**6, 2_000)
    for mode in ("RGB", "L", "CMYK"):
        content = encode(Image.new(mode, (300, 264)), "jpeg", exif=exif(6))
        image = decode(content, limits, storage_side)
        assert (image.height, image.width, image.pixels.shape[1]) == (300, 264, height), mode


def test_other_formats_are_not_reduced() -> None:
    """They have no such blocks."""
    for format_ in ("png", "webp"):
        assert (decode(encode(noise(80, 80), format_), LIMITS, storage_side=32).pixels == noise(80, 80)).all()


def test_a_jpeg_of_several_pictures_is_its_first() -> None:
    """MPO, a JPEG with further pictures behind the first, is a photograph and not an animation."""
    several = encode(Image.fromarray(noise(8, 8)), "mpo", save_all=True, append_images=[Image.new("RGB", (8, 8))])
    image = decode(several, LIMITS)
    assert image.format == "jpeg"
    assert (image.pixels == decode(encode(noise(8, 8), "jpeg"), LIMITS).pixels).all()


@pytest.mark.parametrize("format_", ["png", "webp"])
def test_animations_are_refused(format_: str) -> None:
    """Animated PNG and WebP are refused."""
    frames = [Image.fromarray(noise(8, 8, seed)) for seed in range(3)]
    content = encode(frames[0], format_, save_all=True, append_images=frames[1:])
    assert refusal(content) == "animated"


@pytest.mark.parametrize(
    "content",
    [
        encode(noise(8, 8), "gif"),
        encode(noise(8, 8), "bmp"),
        encode(noise(8, 8), "tiff"),
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"<!doctype html><img src=x>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n",
        b"\0",
    ],
)
def test_other_formats_are_refused(content: bytes) -> None:
    """What is no JPEG, PNG or WebP by its content is refused as such."""
    assert refusal(content) == "unsupported_format"


def test_an_empty_file_is_refused() -> None:
    """No bytes are no image."""
    assert refusal(b"") == "undecodable"


@pytest.mark.parametrize("format_", ["jpeg", "png", "webp"])
def test_truncated_files_are_refused(format_: str) -> None:
    """A file cut anywhere behind its signature is refused, never filled up with gray."""
    content = encode(noise(24, 24), format_)
    for length in range(12, len(content) - 4, 7):
        assert refusal(content[:length]) == "undecodable", length


def test_rows_that_a_png_lacks_are_black() -> None:
    """A whole PNG whose pixels end before its height does shows black there, never this process's memory."""
    content = png([b"\7\7"], width=2, height=300, bit_depth=8, color_type=GRAY)
    image = decode(content, LIMITS)
    assert (image.pixels[0] == 7).all()
    assert not image.pixels[1:].any()


def test_every_flipped_bit_of_a_png_is_noticed() -> None:
    """PNG has checksums: a flipped bit in any chunk of it is refused."""
    content = encode(noise(4, 4), "png")
    for position in range(8, len(content) - 12):
        damaged = bytearray(content)
        damaged[position] ^= 0x10
        assert refusal(bytes(damaged)) in {"undecodable", "too_large"}, position


SEEDS = [encode(noise(16, 16), format_, exif=exif(6)) for format_ in ("jpeg", "png", "webp")]
SEEDS += [encode(noise(16, 16), "webp", lossless=False), encode(noise(16, 16), "jpeg", progressive=True)]
SEEDS += [content for content, _ in PNGS.values()]


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.data())
def test_damaged_files_decode_or_are_refused(data: st.DataObject) -> None:
    """Whatever bytes of a file are overwritten, the result is an image or UndecodableImage."""
    damaged = bytearray(data.draw(st.sampled_from(SEEDS)))
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        image = decode(bytes(damaged), LIMITS)
    except UndecodableImage:
        return
    assert image.pixels.shape == (image.height, image.width, 3)


def webp_header(kind: bytes, width: int, height: int) -> bytes:
    """The start of a WebP file that declares a size and holds no pixels (RFC 9649)."""
    if kind == b"VP8X":
        body = bytes(4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    elif kind == b"VP8L":
        body = b"\x2f" + ((width - 1) | (height - 1) << 14).to_bytes(4, "little")
    else:
        body = b"\x10\0\0\x9d\x01\x2a" + struct.pack("<HH", width, height)
    body += bytes(-len(body) % 2)
    return b"RIFF" + struct.pack("<I", len(body) + 12) + b"WEBP" + kind + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize(
    "content",
    [
        png([], width=60_000, height=60_000, bit_depth=8, color_type=RGB),
        png([], width=2_001, height=1, bit_depth=8, color_type=RGB),
        png([], width=400, height=251, bit_depth=8, color_type=RGB),
        webp_header(b"VP8X", 2**24, 2**24),
        webp_header(b"VP8L", 16_384, 16_384),
        webp_header(b"VP8 ", 16_383, 1),
        webp_header(b"VP8 ", 251, 400),
    ],
)
def test_pixel_bombs_are_refused_by_their_header(content: bytes) -> None:
    """A file that declares too large a size is refused for it, though it holds no pixels to decode."""
    assert refusal(content) == "too_large"


@pytest.mark.parametrize("kind", [b"VP8X", b"VP8L", b"VP8 "])
def test_a_large_webp_is_refused_before_pillow_opens_it(kind: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow allocates a WebP's canvas on opening, so its size is read from the header before that."""
    monkeypatch.setattr(Image, "open", None)
    assert refusal(webp_header(kind, 251, 400)) == "too_large"


@pytest.mark.parametrize("format_", ["jpeg", "png", "webp"])
def test_limits_are_inclusive(format_: str) -> None:
    """A file of exactly the limits is taken; one byte, pixel or column less allowed, and it is refused."""
    content = encode(noise(10, 20), format_)
    decode(content, ImageLimits(len(content), 200, 20))
    assert refusal(content, ImageLimits(len(content) - 1, 200, 20)) == "too_large"
    assert refusal(content, ImageLimits(len(content), 199, 20)) == "too_large"
    assert refusal(content, ImageLimits(len(content), 200, 19)) == "too_large"


def test_a_refusal_survives_pickling() -> None:
    """A decoding process can hand its refusal to the process that asked."""
    error = pickle.loads(pickle.dumps(UndecodableImage("animated", "an animation")))
    assert (error.code, error.detail, str(error)) == ("animated", "an animation", "an animation")


def test_pixels_can_be_written() -> None:
    """The result is an array of its own, which torch takes without a copy."""
    assert isinstance(decode(encode(noise(8, 8), "png"), LIMITS), DecodedImage)
    assert decode(encode(noise(8, 8), "png"), LIMITS).pixels.flags.writeable


def cubic(x: float) -> float:
    """Keys' kernel with a = -1/2."""
    x = abs(x)
    if x < 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


def resampling(length: int, start: float, stop: float, size: int) -> NDArray[np.float64]:
    """(size, length): weights of the source samples in each of `size` samples over [start, stop), antialiased."""
    scale = (stop - start) / size
    weights = np.zeros((size, length))
    for i in range(size):
        centre = start + (i + 0.5) * scale
        for j in range(length):
            weights[i, j] = cubic((j + 0.5 - centre) / max(scale, 1))
    return weights / weights.sum(axis=1, keepdims=True)


def smooth(height: int, width: int) -> NDArray[np.uint8]:
    """An image in the middle of the range, where no clipping hides a wrong weight."""
    return (noise(height, width) // 2 + 64).astype(np.uint8)


def test_to_storage_is_an_antialiased_bicubic() -> None:
    """Reducing equals the cubic kernel, stretched by the scale, written as loops, but for rounding."""
    image = smooth(50, 70)
    rows, columns = resampling(50, 0, 50, 32), resampling(70, 0, 70, 45)  # 70 * 32 / 50 = 44.8
    expected = np.einsum("ij,jkc,lk->ilc", rows, image.astype(float), columns)
    result = to_storage(image, 32)
    assert result.shape == (32, 45, 3)
    np.testing.assert_allclose(result.astype(float), expected, atol=1.2)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (20, 500), (32, 40)])
def test_small_images_are_stored_as_they_are(height: int, width: int) -> None:
    """An image whose shorter side isn't longer than the storage side is left alone."""
    assert (to_storage(noise(height, width), 32) == noise(height, width)).all()


@pytest.mark.parametrize(("height", "width", "crop_fraction"), [(48, 64, 0.875), (64, 40, 1.0), (11, 14, 0.5)])
def test_to_input_is_an_antialiased_bicubic_of_the_centre(height: int, width: int, crop_fraction: float) -> None:
    """The input equals the cubic kernel over the centre square, enlarged or reduced, but for rounding."""
    image = smooth(height, width)
    side = min(height, width) * 28 / round(28 / crop_fraction)
    top, left = (height - side) / 2, (width - side) / 2
    rows, columns = resampling(height, top, top + side, 28), resampling(width, left, left + side, 28)
    expected = np.einsum("ij,jkc,lk->ilc", rows, image.astype(float), columns)
    result = to_input(image, Preprocessing(image_size=28, crop_fraction=crop_fraction))
    assert result.shape == (28, 28, 3)
    np.testing.assert_allclose(result.astype(float), expected, atol=1.2)


def test_the_paper_s_centre_crop() -> None:
    """At 224 of 256, an image stored at 256 keeps its pixels: the crop doesn't resample."""
    image = noise(256, 300)
    result = to_input(image, Preprocessing(image_size=224, crop_fraction=0.875))
    assert (result == image[16:240, 38:262]).all()


@pytest.mark.parametrize(("height", "width"), [(256, 301), (301, 256), (256, 300), (300, 256), (256, 256), (257, 258)])
def test_a_crop_between_pixels_resamples_along_its_axis_alone(height: int, width: int) -> None:
    """To the bit what resampling along both axes gives."""
    image = noise(height, width)
    stored = Image.fromarray(to_storage(image, 256))
    left, top = (stored.width - 224) / 2, (stored.height - 224) / 2
    box = (left, top, left + 224, top + 224)
    expected = np.asarray(stored.resize((224, 224), Image.Resampling.BICUBIC, box))
    assert (to_input(image, Preprocessing(image_size=224, crop_fraction=0.875)) == expected).all()


def test_an_image_of_the_input_s_size_is_the_input() -> None:
    """A 32 x 32 image reaches a 32-pixel encoder unchanged."""
    assert (to_input(noise(32, 32), Preprocessing(image_size=32)) == noise(32, 32)).all()


@pytest.mark.parametrize(("height", "width"), [(300, 300), (97, 211), (40, 33), (500, 33)])
def test_a_stored_image_has_the_input_of_its_original(height: int, width: int) -> None:
    """Training and indexing, which read stored images, and queries, which read uploads, agree to the bit."""
    preprocessing = Preprocessing(image_size=32, storage_side=64, crop_fraction=0.875)
    original = noise(height, width)
    stored = to_storage(original, preprocessing.storage_side)
    assert (to_input(stored, preprocessing) == to_input(original, preprocessing)).all()


@pytest.mark.parametrize(("height", "width"), [(1, 10_000), (10_000, 1), (1, 1)])
def test_thin_images_have_an_input(height: int, width: int) -> None:
    """A line of pixels has an input, and making it takes no memory for the line enlarged whole."""
    image = np.full((height, width, 3), 77, np.uint8)
    assert (to_input(image, Preprocessing(image_size=224, crop_fraction=math.sqrt(0.5))) == 77).all()
