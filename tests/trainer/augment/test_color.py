import colorsys
import dataclasses

import pytest
import torch
from torchvision.transforms.v2 import functional as F

from tests.trainer.augment.drawn import draw
from trainer.augment.color import BRIGHTNESS, CONTRAST, HUE, SATURATION, ColorJitter, jitter_colors, shift_hue

NUM_IMAGES = 48


def images(seed: int, num_views: int = 2 * NUM_IMAGES, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Noise with gray, black, white and primary pixels among it, (V, 3, 6, 7)."""
    pixels = torch.rand((num_views, 3, 6, 7), dtype=dtype, generator=torch.Generator().manual_seed(seed))
    pixels[:, :, 0, 0] = 0
    pixels[:, :, 0, 1] = 1
    pixels[:, :, 0, 2] = 0.3
    pixels[:, :, 1, :3] = torch.eye(3, dtype=dtype)
    pixels[:, :, 1, 3:6] = 1 - torch.eye(3, dtype=dtype)
    return pixels


def parameters(**changes: object) -> ColorJitter:
    """Parameters of strong jitter for NUM_IMAGES images."""
    return draw(ColorJitter, "color_jitter", NUM_IMAGES, **{"color_probability": 1, **changes})


def only(operation: int) -> ColorJitter:
    """Parameters under which one operation alone changes colours."""
    drawn = parameters()
    neutral = {
        BRIGHTNESS: ("brightness", 1),
        CONTRAST: ("contrast", 1),
        SATURATION: ("saturation", 1),
        HUE: ("hue_shift", 0),
    }
    del neutral[operation]
    changes = {name: torch.full_like(getattr(drawn, name), value) for name, value in neutral.values()}
    return dataclasses.replace(drawn, **changes)


def jittered(pixels: torch.Tensor, drawn: ColorJitter) -> torch.Tensor:
    """The jitter on (V, 3, H, W), leaving its argument alone."""
    return jitter_colors(pixels.transpose(0, 1).clone(), drawn).transpose(0, 1)


def torchvision_step(image: torch.Tensor, drawn: ColorJitter, operation: int, view: int) -> torch.Tensor:
    """One operation of one view by torchvision; brightness with its offset, which torchvision lacks."""
    names = {BRIGHTNESS: "brightness", CONTRAST: "contrast", SATURATION: "saturation", HUE: "hue_shift"}
    value = float(getattr(drawn, names[operation]).flatten()[view])
    if operation == BRIGHTNESS:
        return (image * value + float(drawn.brightness_offset.flatten()[view])).clamp(0, 1)
    functions = {CONTRAST: F.adjust_contrast, SATURATION: F.adjust_saturation, HUE: F.adjust_hue}
    return functions[operation](image, value).clamp(0, 1)


def test_brightness_is_torchvisions() -> None:
    """Brightness alone equals torchvision's adjust_brightness in float64."""
    pixels, drawn = images(0), only(BRIGHTNESS)
    expected = [F.adjust_brightness(x, float(f)) for x, f in zip(pixels, drawn.brightness.flatten(), strict=True)]
    torch.testing.assert_close(jittered(pixels, drawn), torch.stack(expected), rtol=0, atol=1e-14)


@pytest.mark.parametrize("operation", [CONTRAST, SATURATION])
def test_contrast_and_saturation_are_torchvisions(operation: int) -> None:
    """Contrast alone and saturation alone equal torchvision's operations in float64."""
    pixels, drawn = images(1), only(operation)
    expected = [torchvision_step(x, drawn, operation, view) for view, x in enumerate(pixels)]
    torch.testing.assert_close(jittered(pixels, drawn), torch.stack(expected), rtol=0, atol=1e-14)


@pytest.mark.parametrize("shift", [-0.5, -0.4, -0.2, -0.01, 0, 0.1, 1 / 3, 0.4, 0.5])
def test_hue_is_the_standard_librarys(shift: float) -> None:
    """A hue shift is colorsys' RGB -> HSV -> RGB with h + shift, at grays and primaries too."""
    pixels = images(2, num_views=4)
    turned = shift_hue(pixels.transpose(0, 1), torch.full((4, 1, 1), shift, dtype=pixels.dtype))
    for view, y, x in [(view, y, x) for view in range(4) for y in range(6) for x in range(7)]:
        h, s, v = colorsys.rgb_to_hsv(*pixels[view, :, y, x].tolist())
        expected = colorsys.hsv_to_rgb((h + shift) % 1, s, v)
        assert turned[:, view, y, x].tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("brightness", ["multiplicative", "additive"])
def test_jitter_is_torchvisions_operations_in_the_drawn_order(brightness: str) -> None:
    """The jitter is the four operations one after the other in each view's order, clipped after each.

    To 2e-6: torchvision computes hue in float32 whatever it is given.
    """
    pixels, drawn = images(3), parameters(brightness=brightness)
    for view, result in enumerate(jittered(pixels, drawn)):
        expected = pixels[view]
        for operation in drawn.order.flatten(0, 1)[view].tolist():
            expected = torchvision_step(expected, drawn, operation, view)
        torch.testing.assert_close(result, expected, rtol=0, atol=2e-6)


def test_float32_jitter_stays_close_to_float64_and_in_range() -> None:
    """In float32 the jitter is within 1e-5 of float64, and never leaves [0, 1]."""
    pixels, drawn = images(4), parameters()
    result = jittered(pixels.float(), drawn)
    assert result.dtype == torch.float32
    assert result.min() >= 0
    assert result.max() <= 1
    torch.testing.assert_close(result.double(), jittered(pixels, drawn), rtol=0, atol=1e-5)


def test_a_view_without_jitter_keeps_its_colours() -> None:
    """Where the coin of `color_probability` says no, pixels stay bit for bit."""
    pixels, drawn = images(5), parameters(color_probability=0.5)
    untouched = (drawn.hue_shift == 0).flatten()
    assert 0 < untouched.sum() < len(untouched)
    same = (jittered(pixels, drawn) == pixels).flatten(1).all(1)
    assert torch.equal(same, untouched)
