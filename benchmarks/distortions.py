"""What happens to a photograph on its way through other people's hands: the same every time."""

import io
from collections.abc import Callable, Mapping

from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

QUALITY = 95  # of the JPEG that each copy is, unless that is what happens to it

Distortion = Callable[[Image.Image], Image.Image]


def _cropped(share: float) -> Distortion:
    """That share of each side, off the middle."""

    def crop(image: Image.Image) -> Image.Image:
        width, height = round(share * image.width), round(share * image.height)
        left, top = (image.width - width) // 3, (image.height - height) // 4
        return image.crop((left, top, left + width, top + height))

    return crop


def _resized(share: float) -> Distortion:
    return lambda image: image.resize((round(share * image.width), round(share * image.height)))


def _enhanced(kind: type[ImageEnhance.Brightness | ImageEnhance.Contrast], factor: float) -> Distortion:
    return lambda image: kind(image).enhance(factor)


def _rotated(degrees: float) -> Distortion:
    """The corners that come in are black."""
    return lambda image: image.rotate(degrees, Image.Resampling.BICUBIC)


def _blurred(image: Image.Image) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(0.01 * max(image.size)))


def _captioned(image: Image.Image) -> Image.Image:
    captioned = image.copy()
    size = max(8, image.height // 8)
    draw = ImageDraw.Draw(captioned)
    place, font = (image.width // 20, image.height - 2 * size), ImageFont.load_default(size)
    draw.text(place, "look at this!", "white", font, stroke_width=2, stroke_fill="black")
    return captioned


def _bordered(image: Image.Image) -> Image.Image:
    return ImageOps.expand(image, max(image.size) // 10, "black")


def _edited(image: Image.Image) -> Image.Image:
    return _captioned(_enhanced(ImageEnhance.Brightness, 1.3)(_resized(0.5)(_cropped(0.8)(image))))


DISTORTIONS: Mapping[str, Distortion] = {
    "half the size": _resized(0.5),
    "JPEG of quality 30": lambda image: image,
    "cropped to 80% of each side": _cropped(0.8),
    "cropped to 60% of each side": _cropped(0.6),
    "flipped": ImageOps.mirror,
    "grey": lambda image: image.convert("L").convert("RGB"),
    "brightness x 1.5": _enhanced(ImageEnhance.Brightness, 1.5),
    "contrast x 0.5": _enhanced(ImageEnhance.Contrast, 0.5),
    "blurred": _blurred,
    "rotated by 5 degrees": _rotated(5),
    "rotated by 10 degrees": _rotated(10),
    "caption": _captioned,
    "black border of 10%": _bordered,
    "cropped, smaller, brighter, caption": _edited,
}


def copies_of(content: bytes) -> dict[str, bytes]:
    """JPEG files of the distorted photograph, by the distortion's name."""
    with Image.open(io.BytesIO(content)) as opened:
        image = opened.convert("RGB")
    return {
        name: _jpeg(distort(image), 30 if name == "JPEG of quality 30" else QUALITY)
        for name, distort in DISTORTIONS.items()
    }


def _jpeg(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
