import torch
from torchvision.transforms.v2 import functional as F

from tests.trainer.augment.drawn import noise_images
from trainer.augment.grayscale import Grayscale, to_gray


def test_grayscale_is_torchvisions() -> None:
    """Grayscale equals torchvision's rgb_to_grayscale with three channels."""
    planes = noise_images(6, 7)
    expected = F.rgb_to_grayscale(planes.transpose(0, 1), num_output_channels=3)
    torch.testing.assert_close(to_gray(planes).transpose(0, 1), expected, rtol=0, atol=1e-15)


def test_only_the_drawn_views_lose_their_colours() -> None:
    """Views whose coin says no keep their pixels bit for bit; the parameters' first axis is the view."""
    planes = noise_images(6, 7)
    active = torch.tensor([[True, False, False], [False, True, True]])
    result = Grayscale(active)(planes.clone())
    assert torch.equal((result == planes).all(3).all(2).all(0), ~active.flatten())
    assert torch.equal(result[0, active.flatten()], result[2, active.flatten()])
