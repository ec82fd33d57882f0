import pytest
import torch

from tests.trainer.augment import reference
from tests.trainer.augment.drawn import draw, noise_images
from trainer.augment.cutout import Cutout


@pytest.mark.parametrize(("fraction", "size"), [(0.5, 32), (0.3, 31), (1.0, 9)])
def test_cutout_is_a_gray_square(fraction: float, size: int) -> None:
    """A cutout is torchvision's erase of the square's part inside the view with 0.5; even and odd sides."""
    cutout = draw(Cutout, "cutout", 20, size=size, cutout_side=fraction, cutout_probability=0.8)
    planes = noise_images(40, size)
    result = cutout(planes.clone())
    for index in range(40):
        assert torch.equal(result[:, index], reference.changed(planes[:, index], cutout, *divmod(index, 20)))


def test_a_square_at_the_corner_is_cut_off() -> None:
    """A square of side 4 that starts at (-2, 3) of a 5-pixel view hides rows 0..1 of columns 3..4."""
    result = Cutout(torch.tensor([[-2]]), torch.tensor([[3]]), torch.tensor([[4]]))(torch.zeros(3, 1, 5, 5))
    assert (result[1, 0] == 0.5).nonzero().tolist() == [[0, 3], [0, 4], [1, 3], [1, 4]]


def test_without_a_square_a_view_stays() -> None:
    """Side 0 hides nothing."""
    planes = noise_images(2, 8)
    sides = torch.tensor([[0], [0]])
    assert torch.equal(Cutout(sides + 3, sides + 3, sides)(planes.clone()), planes)
