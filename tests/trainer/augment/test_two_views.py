import contextlib
from collections.abc import Iterator
from typing import Literal, get_args

import numpy as np
import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from models.config import Augmentation, Operation
from tests.trainer.augment import reference
from trainer.augment import ViewParameters, sample_parameters, two_views
from trainer.data import ImageBatch, ImageGroup

RECIPE = Augmentation(blur_sigma=(0.5, 2.0))
ALL: tuple[Operation, ...] = get_args(Operation)
EVERYTHING = [
    Augmentation(operations=ALL),
    Augmentation(operations=ALL[::-1]),
    Augmentation(operations=ALL[::-1], branches="one"),
]


def one_group(pixels: torch.Tensor, heights: torch.Tensor, widths: torch.Tensor) -> ImageBatch:
    return ImageBatch([ImageGroup(torch.arange(len(pixels)), pixels)], heights, widths)


def batch(num_images: int = 8, seed: int = 0) -> ImageBatch:
    """Blocky noise of 48 x 56 pixels."""
    generator = torch.Generator().manual_seed(seed)
    blocks = torch.randint(0, 256, (num_images, 3, 12, 14), dtype=torch.uint8, generator=generator)
    pixels = blocks.repeat_interleave(4, 2).repeat_interleave(4, 3)
    return one_group(pixels, torch.full((num_images,), 48), torch.full((num_images,), 56))


def parameters_of(images: ImageBatch, recipe: Augmentation = RECIPE, *, step: int = 3) -> ViewParameters:
    """Views of 40 pixels."""
    return sample_parameters(recipe, images.heights, images.widths, 40, seed=2, step=step)


def test_views_are_torchvisions_operations_in_the_papers_order() -> None:
    """Rows 0..N-1 are x1 and N..2N-1 are x2: crop, flip, jitter, gray, blur, each as torchvision does it."""
    images = batch(16)
    parameters = parameters_of(images)
    views = two_views(images, parameters)
    assert views.shape == (32, 3, 40, 40)
    assert views.dtype == torch.float32
    for view in range(2):
        for row in range(16):
            expected = reference.view(images.groups[0].pixels[row], parameters, view, row)
            torch.testing.assert_close(views[16 * view + row], expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("branches", ["both", "one"])
@pytest.mark.parametrize("seed", range(8))
def test_operations_apply_in_any_order(seed: int, branches: Literal["both", "one"]) -> None:
    """Random subsets of the nine operations in random order give what torchvision gives, one after the other."""
    rng = np.random.default_rng(seed)
    names = rng.permutation(ALL)[: rng.integers(3, len(ALL) + 1)].tolist()
    images = batch(4, seed)
    parameters = parameters_of(images, Augmentation(operations=names, branches=branches), step=seed)
    views = two_views(images, parameters)
    for index, view in enumerate(views):
        expected = reference.view(images.groups[0].pixels[index % 4], parameters, index // 4, index % 4)
        torch.testing.assert_close(view, expected, rtol=0, atol=1e-4, msg=f"{names}: view {index}")


@pytest.mark.parametrize("name", ALL)
def test_one_branch_leaves_the_other_alone(name: Operation) -> None:
    """Fig. 5: both views start from the same random crop; the operation changes x1, and x2 stays bit for bit."""
    images = batch(16)
    always = {
        f"{field}_probability": 1 for field in ("flip", "color", "grayscale", "blur", "rotation", "noise", "sobel")
    }
    alone = Augmentation(operations=(name,), branches="one", blur_sigma=(0.5, 2), **always)
    x1, x2 = two_views(images, parameters_of(images, alone)).chunk(2)
    nothing = parameters_of(images, Augmentation(operations=(), branches="one"))
    start, same = two_views(images, nothing).chunk(2)
    assert torch.equal(start, same)
    assert torch.equal(x2, start)
    assert (x1 - x2).flatten(1).abs().amax(1).min() > 0.01
    boxes = torch.stack((nothing.start.top, nothing.start.left, nothing.start.height, nothing.start.width), -1)
    assert len(boxes.unique(dim=1)[0]) == 16  # a random one for each image


def test_views_that_start_without_a_crop_start_at_the_centre() -> None:
    """Without any operation both views are the largest centred square of the image, resized."""
    images = batch(4)
    views = two_views(images, parameters_of(images, Augmentation(operations=())))
    for index, view in enumerate(views):
        centre = F.center_crop(images.groups[0].pixels[index % 4] / 255, [48, 48])
        expected = F.resize(centre, [40, 40], InterpolationMode.BICUBIC, antialias=True).clamp(0, 1)
        torch.testing.assert_close(view, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("recipe", [RECIPE, *EVERYTHING])
def test_a_slice_of_the_parameters_gives_the_same_views(recipe: Augmentation) -> None:
    """Rows 4..7 of a batch of 8 are what a process computes that holds those rows alone."""
    images = batch()
    parameters = parameters_of(images, recipe)
    rows = slice(4, 8)
    part = one_group(images.groups[0].pixels[rows], images.heights[rows], images.widths[rows])
    views = two_views(images, parameters).unflatten(0, (2, 8))[:, rows]
    torch.testing.assert_close(two_views(part, parameters.rows(rows)).unflatten(0, (2, 4)), views, rtol=0, atol=1e-5)


def grouped(device: str) -> tuple[ImageBatch, ImageBatch]:
    """Eight images of three shapes on `device` in three groups, and padded to one size on the CPU."""
    sizes = torch.tensor([(48, 56), (20, 24), (48, 40), (20, 90), (24, 20), (18, 100), (40, 48), (22, 22)])
    heights, widths = sizes.T.contiguous()
    pixels = torch.zeros(8, 3, 48, 100, dtype=torch.uint8)
    generator = torch.Generator().manual_seed(0)
    for row, (height, width) in enumerate(sizes.tolist()):
        pixels[row, :, :height, :width] = torch.randint(0, 256, (3, height, width), generator=generator)
    groups = [
        ImageGroup(torch.tensor(rows), pixels[rows, :, :height, :width].to(device))
        for rows, height, width in (([0, 2, 6], 48, 56), ([1, 4, 7], 24, 24), ([3, 5], 20, 100))
    ]
    return ImageBatch(groups, heights, widths), one_group(pixels, heights, widths)


@pytest.mark.parametrize("recipe", [RECIPE, *EVERYTHING])
def test_groups_change_no_view(recipe: Augmentation) -> None:
    """Images in groups of similar shape give the views that they give padded to one size, in the batch's order."""
    groups, padded = grouped("cpu")
    parameters = parameters_of(padded, recipe)
    torch.testing.assert_close(two_views(groups, parameters), two_views(padded, parameters), rtol=0, atol=2e-5)


@pytest.mark.parametrize("size", [40, 72])
@pytest.mark.parametrize("recipe", [RECIPE, *EVERYTHING])
def test_what_lies_beyond_an_image_changes_no_bit(recipe: Augmentation, size: int) -> None:
    """Its views are those of the image padded with 0, or with anything; at sizes with either kind of resampling."""
    _, padded = grouped("cpu")
    (group,) = padded.groups
    generator = torch.Generator().manual_seed(1)
    filled = torch.randint(0, 256, group.pixels.shape, dtype=torch.uint8, generator=generator)
    for row, (height, width) in enumerate(zip(padded.heights.tolist(), padded.widths.tolist(), strict=True)):
        filled[row, :, :height, :width] = group.pixels[row, :, :height, :width]
    parameters = sample_parameters(recipe, padded.heights, padded.widths, size, seed=2, step=3)
    other = two_views(one_group(filled, padded.heights, padded.widths), parameters)
    assert torch.equal(other, two_views(padded, parameters))


def test_views_repeat_for_a_step_and_change_with_it() -> None:
    """The same (seed, step) gives the same bits, another step other views, and an image's two views differ."""
    images = batch()
    views = two_views(images, parameters_of(images))
    assert torch.equal(views, two_views(images, parameters_of(images)))
    other = two_views(images, parameters_of(images, step=4))
    assert (views - other).flatten(1).abs().amax(1).min() > 0.01
    assert (views[:8] - views[8:]).flatten(1).abs().amax(1).min() > 0.01


@pytest.mark.parametrize("operations", [RECIPE.operations, ALL, ALL[::-1]])
def test_views_stay_within_range(operations: tuple[Operation, ...]) -> None:
    """Bicubic overshoot, jitter, blur, noise and edges never leave [0, 1], even at the strongest setting."""
    strong = Augmentation(operations=operations, color_strength=2, color_probability=1, noise_sigma=(0.5, 0.5))
    images = batch(64)
    views = two_views(images, parameters_of(images, strong))
    assert views.min() >= 0
    assert views.max() <= 1 + 1e-6


def views_without_a_stall(images: ImageBatch, parameters: ViewParameters, *, compiled: bool) -> torch.Tensor:
    """The views that CUDA computes, brought to the CPU; waiting for the device is an error."""
    moved = parameters.to(torch.device("cuda"))
    two_views(images, moved, compiled=compiled)  # the first call may wait, for its libraries and the compiler
    torch.cuda.set_sync_debug_mode("error")
    try:
        views = two_views(images, moved, compiled=compiled)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return views.cpu()


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    """The compiler without the graphs of other recipes, of which it keeps eight."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("recipe", [RECIPE, *EVERYTHING])
@pytest.mark.usefixtures("fresh_compiler")
def test_views_on_cuda_are_the_cpus(recipe: Augmentation, compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: FBT001 - a case of the test
    """In full float32 CUDA computes the CPU's views to 2e-4, compiled or not, in groups or not, without a stall."""
    for module in ("crop", "blur"):
        monkeypatch.setattr(f"trainer.augment.{module}.tensor_cores", contextlib.nullcontext)
    groups, padded = grouped("cuda")
    images = batch(16)
    on_device = one_group(images.groups[0].pixels.cuda(), images.heights, images.widths)
    for there, here in ((on_device, images), (groups, padded)):
        parameters = parameters_of(here, recipe)
        views = views_without_a_stall(there, parameters, compiled=compiled)
        torch.testing.assert_close(views, two_views(here, parameters), rtol=0, atol=2e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_tensor_cores_change_no_view_visibly() -> None:
    """With TF32, the views of the paper's operations are the CPU's within 4 levels, half of one on average."""
    images = batch(16)
    on_device = one_group(images.groups[0].pixels.cuda(), images.heights, images.widths)
    parameters = parameters_of(images)
    views = views_without_a_stall(on_device, parameters, compiled=False)
    difference = (views - two_views(images, parameters)).abs()
    assert difference.max() < 4 / 255
    assert difference.mean() < 0.5 / 255
