import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from models.config import Augmentation
from trainer.augment import ViewParameters, sample_parameters, two_views
from trainer.augment.parameters import BRIGHTNESS, CONTRAST, SATURATION
from trainer.data import ImageBatch, ImageGroup

RECIPE = Augmentation(blur_sigma=(0.5, 2.0))


def one_group(pixels: torch.Tensor, heights: torch.Tensor, widths: torch.Tensor) -> ImageBatch:
    return ImageBatch([ImageGroup(torch.arange(len(pixels)), pixels)], heights, widths)


def batch(num_images: int = 8, seed: int = 0) -> ImageBatch:
    """Blocky noise of 48 x 56 pixels."""
    generator = torch.Generator().manual_seed(seed)
    blocks = torch.randint(0, 256, (num_images, 3, 12, 14), dtype=torch.uint8, generator=generator)
    pixels = blocks.repeat_interleave(4, 2).repeat_interleave(4, 3)
    return one_group(pixels, torch.full((num_images,), 48), torch.full((num_images,), 56))


def parameters_of(images: ImageBatch, *, step: int = 3) -> ViewParameters:
    """Views of 40 pixels, with blur."""
    return sample_parameters(RECIPE, images.heights, images.widths, 40, seed=2, step=step)


def view_by_torchvision(image: torch.Tensor, parameters: ViewParameters, view: int, row: int) -> torch.Tensor:
    """One view of one uint8 image, operation after operation."""
    value = {name: tensor[view, row] for name, tensor in vars(parameters).items() if isinstance(tensor, torch.Tensor)}
    crop = [int(value[name]) for name in ("top", "left", "height", "width")]
    x = F.resized_crop(image / 255, *crop, [40, 40], InterpolationMode.BICUBIC, antialias=True).clamp(0, 1)
    if value["flip"]:
        x = F.horizontal_flip(x)
    for operation in value["order"].tolist():
        if operation == BRIGHTNESS:
            x = F.adjust_brightness(x, float(value["brightness"]))
        elif operation == CONTRAST:
            x = F.adjust_contrast(x, float(value["contrast"]))
        elif operation == SATURATION:
            x = F.adjust_saturation(x, float(value["saturation"]))
        else:
            x = F.adjust_hue(x, float(value["hue_shift"]))
    if value["grayscale"]:
        x = F.rgb_to_grayscale(x, num_output_channels=3)
    return F.gaussian_blur(x, [5, 5], [float(value["blur_sigma"])]) if value["blur_sigma"] else x


def test_views_are_torchvisions_operations_in_the_papers_order() -> None:
    """Rows 0..N-1 are x1 and N..2N-1 are x2: crop, flip, jitter, gray, blur, each as torchvision does it."""
    images = batch(16)
    parameters = parameters_of(images)
    views = two_views(images, parameters)
    assert views.shape == (32, 3, 40, 40)
    assert views.dtype == torch.float32
    for view in range(2):
        for row in range(16):
            expected = view_by_torchvision(images.groups[0].pixels[row], parameters, view, row)
            torch.testing.assert_close(views[16 * view + row], expected, rtol=0, atol=2e-5)


def test_a_slice_of_the_parameters_gives_the_same_views() -> None:
    """Rows 4..7 of a batch of 8 are what a process computes that holds those rows alone."""
    images = batch()
    parameters = parameters_of(images)
    rows = slice(4, 8)
    part = one_group(images.groups[0].pixels[rows], images.heights[rows], images.widths[rows])
    views = two_views(images, parameters).unflatten(0, (2, 8))[:, rows]
    torch.testing.assert_close(two_views(part, parameters.rows(rows)).unflatten(0, (2, 4)), views, rtol=0, atol=1e-6)


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


def test_groups_change_no_view() -> None:
    """Images in groups of similar shape give the views that they give padded to one size, in the batch's order."""
    groups, padded = grouped("cpu")
    parameters = parameters_of(padded)
    torch.testing.assert_close(two_views(groups, parameters), two_views(padded, parameters), rtol=0, atol=1e-5)


def test_views_repeat_for_a_step_and_change_with_it() -> None:
    """The same (seed, step) gives the same bits, another step other views, and an image's two views differ."""
    images = batch()
    views = two_views(images, parameters_of(images))
    assert torch.equal(views, two_views(images, parameters_of(images)))
    other = two_views(images, parameters_of(images, step=4))
    assert (views - other).flatten(1).abs().amax(1).min() > 0.01
    assert (views[:8] - views[8:]).flatten(1).abs().amax(1).min() > 0.01


def test_views_stay_within_range() -> None:
    """Bicubic overshoot, jitter and blur never leave [0, 1], even at the strongest setting."""
    strong = Augmentation(color_strength=2, color_probability=1)
    images = batch(64)
    parameters = sample_parameters(strong, images.heights, images.widths, 40, seed=0, step=0)
    views = two_views(images, parameters)
    assert views.min() >= 0
    assert views.max() <= 1 + 1e-6


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_views_on_cuda_are_the_cpus() -> None:
    """CUDA computes the CPU's views to 1e-4, without waiting for the device."""
    images = batch(16)
    parameters = parameters_of(images)
    on_device = one_group(images.groups[0].pixels.cuda(), images.heights, images.widths)
    moved = parameters.to(torch.device("cuda"))
    two_views(on_device, moved)  # the first call may wait, for its libraries
    torch.cuda.set_sync_debug_mode("error")
    try:
        views = two_views(on_device, moved)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(views.cpu(), two_views(images, parameters), rtol=0, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_views_of_groups_on_cuda_are_the_cpus() -> None:
    """CUDA computes the CPU's views of images of several shapes to 1e-4, without waiting for the device."""
    groups, padded = grouped("cuda")
    parameters = parameters_of(padded)
    moved = parameters.to(torch.device("cuda"))
    two_views(groups, moved)  # the first call may wait, for its libraries
    torch.cuda.set_sync_debug_mode("error")
    try:
        views = two_views(groups, moved)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(views.cpu(), two_views(padded, parameters), rtol=0, atol=1e-4)
