import pytest
import torch
from torchvision.transforms.v2 import functional as F

from tests.trainer.augment.drawn import noise_images
from trainer.augment.rotation import Rotation


@pytest.mark.parametrize("size", [6, 7])
def test_views_turn_counter_clockwise(size: int) -> None:
    """By k quarter turns a view is torchvision's rotate by 90 k degrees, bit for bit, beside views of other angles."""
    planes = noise_images(6, size)
    turns = torch.tensor([[1, 0, 3], [2, 1, 3]])
    result = Rotation(turns)(planes.clone())
    for index, k in enumerate(turns.flatten().tolist()):
        assert torch.equal(result[:, index], F.rotate(planes[:, index], 90 * k)), k


def test_a_corner_goes_counter_clockwise() -> None:
    """A quarter turn brings the top right corner to the top left."""
    planes = torch.zeros(3, 1, 5, 5)
    planes[:, :, 0, 4] = 1
    assert Rotation(torch.tensor([[1]]))(planes)[:, 0, 0, 0].tolist() == [1, 1, 1]
