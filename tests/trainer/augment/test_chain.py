from typing import Any, get_args

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from models.config import Augmentation, Operation
from tests.trainer.augment.drawn import noise_images
from trainer.augment import sample_parameters
from trainer.augment.chain import apply, on_a_copy, one_by_one
from trainer.augment.operation import Operation as AnOperation


def operations(*names: Operation, step: int = 0) -> tuple[AnOperation, ...]:
    """Operations on both views of 4 images, of 20 pixels."""
    sizes = torch.full((4,), 40)
    config = Augmentation(operations=names, noise_probability=0.7)
    return sample_parameters(config, sizes, sizes, 20, seed=3, step=step).operations


def test_what_is_compiled_is_one_graph_for_all_steps() -> None:
    """The operations between products trace without a break, once for all steps, compute the same, and spare input."""
    names: tuple[Operation, ...] = ("cutout", "sobel", "noise", "rotation", "grayscale", "color_jitter", "flip")
    counter = CompileCounterWithBackend("aot_eager")
    compiled: Any = torch.compile(on_a_copy, backend=counter, fullgraph=True)
    for step in range(3):
        drawn = operations(*names, step=step)
        planes = noise_images(8, 20, seed=step).float()
        given = planes.clone()
        result = compiled(drawn, planes)
        assert torch.equal(planes, given)
        torch.testing.assert_close(result, one_by_one(drawn, planes), rtol=0, atol=1e-5)
    assert counter.frame_count == 1


def test_products_stay_out_of_what_is_compiled() -> None:
    """The crop and the blur multiply matrices and run as they are; the seven others can be compiled."""
    drawn = operations("blur", *(name for name in get_args(Operation) if name != "blur"))
    eager = [type(operation).__name__ for operation in drawn if not operation.compiles]
    assert eager == ["Blur", "Crop"]


def test_a_chain_applies_first_to_last() -> None:
    """Blur, cutout, crop and noise apply in this order, whatever is compiled elsewhere."""
    drawn = operations("blur", "cutout", "crop", "noise")
    planes = noise_images(8, 20).float()
    expected = planes.clone()
    for operation in drawn:
        expected = operation(expected)
    assert torch.equal(apply(drawn, planes.clone(), compiled=True), expected)


@pytest.mark.parametrize("name", [name for name in get_args(Operation) if name != "crop"])
def test_a_batch_in_which_no_view_is_drawn_stays(name: Operation) -> None:
    """An operation that could happen but whose coin falls for no view changes nothing, bit for bit."""
    fields = ("flip", "color", "grayscale", "blur", "cutout", "rotation", "noise", "sobel")
    seldom = {f"{field}_probability": 1e-9 for field in fields}
    sizes = torch.full((4,), 40)
    config = Augmentation(operations=(name,), **seldom)
    drawn = sample_parameters(config, sizes, sizes, 20, seed=3, step=0).operations
    assert len(drawn) == 1
    planes = noise_images(8, 20).float()
    assert torch.equal(apply(drawn, planes.clone(), compiled=False), planes)
