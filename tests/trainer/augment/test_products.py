import pytest
import torch

from tests.trainer.augment.drawn import draw
from trainer.augment.blur import Blur, gaussian, toeplitz
from trainer.augment.crop import Crop, resampling_matrix
from trainer.augment.products import tensor_cores

TF32_BITS = 13  # of a float32's mantissa that TF32 drops


def test_the_setting_is_put_back() -> None:
    """TF32 is allowed within, and afterwards as before, also after an error."""
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    with tensor_cores():
        assert matmul.fp32_precision == "tf32"
    assert matmul.fp32_precision == before
    with pytest.raises(ValueError, match="inside"), tensor_cores():
        raise ValueError("inside")
    assert matmul.fp32_precision == before


def truncated(x: torch.Tensor) -> torch.Tensor:
    """TF32's value, if bits are dropped and not rounded, which is the most that hardware may lose."""
    return (x.float().view(torch.int32) >> TF32_BITS << TF32_BITS).view(torch.float32).double()


def two_products(left: torch.Tensor, images: torch.Tensor, right: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The product left @ images @ right^T in float64, and of TF32 factors, in levels of an 8-bit image."""
    exact = left @ images @ right.mT
    rough = truncated(left) @ truncated(truncated(images) @ truncated(right).mT)
    return 255 * exact.clamp(0, 1), 255 * rough.clamp(0, 1)


def test_tf32_crops_and_blurs_to_a_level() -> None:
    """TF32's products are off by less than one level of an 8-bit image, and by a quarter of one on average."""
    images = torch.randint(0, 256, (16, 64, 64), generator=torch.Generator().manual_seed(0)) / 255
    crop = draw(Crop, "crop", 16, size=64, branches="one")
    boxes = ((crop.left[0], crop.width[0]), (crop.top[0], crop.height[0]))
    wx, wy = (resampling_matrix(start, length, crop.flip[0], 64, 48, torch.float64) for start, length in boxes)
    sigma = draw(Blur, "blur", 16, size=64, blur_probability=1).sigma[0].double()
    weights = toeplitz(gaussian(sigma, 3), 58).mT
    for left, right in ((wy, wx), (weights, weights)):
        exact, rough = two_products(left, images.double(), right)
        assert (exact - rough).abs().max() < 1
        assert (exact - rough).abs().mean() < 1 / 4
