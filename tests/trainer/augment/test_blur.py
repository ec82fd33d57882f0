import pytest
import torch
from torchvision.transforms.v2 import functional as F

from trainer.augment.blur import blur, toeplitz


@pytest.mark.parametrize(("size", "num_taps"), [(32, 3), (96, 9), (97, 9), (131, 13), (224, 23)])
def test_blur_is_torchvisions_with_a_tenth_of_the_side(size: int, num_taps: int) -> None:
    """Blur equals torchvision's gaussian_blur in float64, with 10% of the side, made odd, as its taps."""
    sigmas = [0.1, 0.7, 2.0]
    images = torch.rand((3, 3, size, size), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    blurred = blur(images.transpose(0, 1).clone(), torch.tensor(sigmas, dtype=torch.float64)).transpose(0, 1)
    for image, result, sigma in zip(images, blurred, sigmas, strict=True):
        expected = F.gaussian_blur(image, [num_taps, num_taps], [sigma, sigma])
        torch.testing.assert_close(result, expected, rtol=0, atol=1e-13)


def test_sigma_zero_leaves_a_view_sharp() -> None:
    """Views whose sigma is 0 keep their pixels among blurred ones."""
    images = torch.rand((3, 2, 40, 40), generator=torch.Generator().manual_seed(1))
    result = blur(images.clone(), torch.tensor([0.0, 1.0]))
    assert torch.equal(result[:, 0], images[:, 0])
    assert (result[:, 1] - images[:, 1]).abs().max() > 0.1


def test_a_small_view_has_nothing_to_blur_with() -> None:
    """Below 20 pixels the kernel has one tap."""
    images = torch.rand((3, 2, 19, 19), generator=torch.Generator().manual_seed(1))
    assert torch.equal(blur(images.clone(), torch.tensor([0.5, 1.0])), images)


def test_a_toeplitz_matrix_is_a_convolution() -> None:
    """A line times the matrix is the line convolved with the taps, where these fit."""
    generator = torch.Generator().manual_seed(2)
    line, taps = (torch.rand(size, dtype=torch.float64, generator=generator) for size in (11, 5))
    expected = [sum(line[i + k] * taps[k] for k in range(5)) for i in range(7)]
    torch.testing.assert_close(line @ toeplitz(taps[None], 7)[0], torch.stack(expected), rtol=1e-12, atol=0)
