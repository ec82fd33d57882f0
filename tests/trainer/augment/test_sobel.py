import numpy as np
import torch
from scipy import ndimage

from tests.trainer.augment import reference
from tests.trainer.augment.drawn import noise_images
from trainer.augment.sobel import Sobel, gradient_magnitude


def test_edges_are_scipys() -> None:
    """Each channel is SciPy's sqrt(gx^2 + gy^2) with mirrored borders, clipped at 1, in float64."""
    planes = noise_images(4, 9) / 2  # weak enough that few gradients are clipped
    sobel = Sobel(torch.tensor([[True, False], [True, True]]))
    result = sobel(planes.clone())
    assert 0 < (result[:, 0] == 1).sum() < result[:, 0].numel() / 2
    for index in range(4):
        expected = reference.changed(planes[:, index], sobel, *divmod(index, 2))
        torch.testing.assert_close(result[:, index], expected, rtol=0, atol=1e-14)
    gradients = [[ndimage.sobel(channel, axis, mode="mirror") for axis in (0, 1)] for channel in planes[:, 3].numpy()]
    by_scipy = torch.from_numpy(np.stack([np.hypot(*pair) for pair in gradients])).clamp(0, 1)
    torch.testing.assert_close(result[:, 3], by_scipy, rtol=0, atol=1e-14)


def test_a_step_of_brightness_is_an_edge() -> None:
    """A step of 0.1 between columns gives 4 * 0.1 on its both sides and nothing elsewhere, borders included."""
    planes = torch.full((3, 1, 6, 6), 0.2, dtype=torch.float64)
    planes[..., 3:] = 0.3
    expected = torch.tensor([0, 0, 0.4, 0.4, 0, 0], dtype=torch.float64).expand(3, 1, 6, 6)
    torch.testing.assert_close(gradient_magnitude(planes), expected, rtol=0, atol=1e-15)
