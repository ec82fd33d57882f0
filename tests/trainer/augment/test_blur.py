import pytest
import torch
from torchvision.transforms.v2 import functional as F

from trainer.augment.blur import blur, blur_matrix


@pytest.mark.parametrize(("size", "num_taps"), [(32, 3), (96, 9), (224, 23)])
def test_blur_is_torchvisions_with_a_tenth_of_the_side(size: int, num_taps: int) -> None:
    """Blur equals torchvision's gaussian_blur in float64, with 10% of the side, made odd, as its taps."""
    sigmas = [0.1, 0.7, 2.0]
    images = torch.rand((3, 3, size, size), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    blurred = blur(images.transpose(0, 1).clone(), torch.tensor(sigmas, dtype=torch.float64)).transpose(0, 1)
    for image, result, sigma in zip(images, blurred, sigmas, strict=True):
        expected = F.gaussian_blur(image, [num_taps, num_taps], [sigma, sigma])
        torch.testing.assert_close(result, expected, rtol=0, atol=1e-13)


def test_sigma_zero_leaves_a_view_sharp() -> None:
    """Views whose sigma is 0 keep their pixels among blurred ones, and the matrix of sigma 0 is the identity."""
    images = torch.rand((3, 2, 40, 40), generator=torch.Generator().manual_seed(1))
    result = blur(images.clone(), torch.tensor([0.0, 1.0]))
    assert torch.equal(result[:, 0], images[:, 0])
    assert (result[:, 1] - images[:, 1]).abs().max() > 0.1
    assert torch.equal(blur_matrix(torch.zeros(1), 40)[0], torch.eye(40))
