import torch
from torchvision.transforms.v2 import functional as F

from tests.trainer.augment.drawn import noise_images
from trainer.augment.flip import Flip


def test_the_drawn_views_are_mirrored_left_to_right() -> None:
    """A flipped view is torchvision's horizontal_flip, bit for bit; the others stay."""
    planes = noise_images(4, 7)
    result = Flip(torch.tensor([[True, False], [False, True]]))(planes.clone())
    assert torch.equal(result[:, [0, 3]], F.horizontal_flip(planes[:, [0, 3]]))
    assert torch.equal(result[:, [1, 2]], planes[:, [1, 2]])
