from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.config import Preprocessing
from models.preprocess import PREPROCESSING_VERSION, to_input
from trainer import data
from trainer.data import ImageStore, epoch_order, model_inputs
from trainer.pack import Pack, PackWriter

CPU = torch.device("cpu")
SAME = [(20, 24)] * 10
RAGGED = [(20, 24), (24, 20), (9, 33), (33, 9), (12, 12), (40, 8), (8, 40), (3, 50), (17, 23), (5, 5)]


def write_pack(folder: Path, sizes: list[tuple[int, int]]) -> tuple[Pack, list[NDArray[np.uint8]]]:
    """A pack of noise images of `sizes`, with pixels of 1 to 255, and the images."""
    rng = np.random.default_rng(0)
    images = [rng.integers(1, 256, (height, width, 3), dtype=np.uint8) for height, width in sizes]
    writer = PackWriter(folder, storage_side=256, preprocessing_version=PREPROCESSING_VERSION)
    for i, image in enumerate(images):
        writer.add(image, label=0, split="test" if i % 4 == 0 else "train", sha256=bytes([i] * 32))
    writer.close(["noise"])
    return Pack.open(folder), images


@pytest.mark.parametrize("sizes", [SAME, RAGGED], ids=["same", "ragged"])
def test_a_batch_holds_the_packs_images(tmp_path: Path, sizes: list[tuple[int, int]]) -> None:
    """Row k has the store's image indices[k] at the top left, beyond it anything; also for the pack's last image.

    Each row lies in one group; images of one size make one group.
    """
    pack, images = write_pack(tmp_path, sizes)
    positions = pack.split("train")
    store = ImageStore(pack, positions, CPU)
    assert len(store) == len(positions) == 7
    for indices in ([6, 0, 3], [6], [2, 2, 5, 1, 4, 6, 0]):
        batch = store.batch(torch.tensor(indices))
        assert torch.equal(torch.cat([group.rows for group in batch.groups]).sort().values, torch.arange(len(indices)))
        assert len(batch.groups) == 1 or sizes == RAGGED
        for group in batch.groups:
            for place, row in enumerate(group.rows.tolist()):
                image = images[positions[indices[row]]]
                at_top_left = group.pixels[place, :, : image.shape[0], : image.shape[1]]
                np.testing.assert_array_equal(at_top_left.numpy(), image.transpose(2, 0, 1))
                assert (batch.heights[row], batch.widths[row]) == image.shape[:2]
            assert group.pixels.shape[2:] == (batch.heights[group.rows].max(), batch.widths[group.rows].max())


def test_a_long_image_pads_no_other(tmp_path: Path) -> None:
    """Panoramas among 60 photos: a batch takes less than twice the bytes of its images, in a few groups."""
    rng = np.random.default_rng(0)
    sizes = [(64, int(side)) if i % 2 else (int(side), 64) for i, side in enumerate(rng.integers(64, 128, 60))]
    pack, images = write_pack(tmp_path, [*sizes, (64, 592), (592, 64)])
    batch = ImageStore(pack, np.arange(62), CPU).batch(torch.arange(62))
    assert len(batch.groups) == 4
    for group in batch.groups:
        assert group.pixels.nbytes < 2 * sum(images[row].nbytes for row in group.rows.tolist())


def test_portraits_and_landscapes_are_not_padded_to_squares(tmp_path: Path) -> None:
    """Photos of one size, upright or not: a batch holds no byte beyond theirs."""
    sizes = [(20, 30), (30, 20)] * 4
    pack, images = write_pack(tmp_path, sizes)
    batch = ImageStore(pack, np.arange(8), CPU).batch(torch.arange(8))
    assert [group.rows.tolist() for group in batch.groups] == [[0, 2, 4, 6], [1, 3, 5, 7]]
    assert sum(group.pixels.nbytes for group in batch.groups) == sum(image.nbytes for image in images)


def test_writing_to_a_batch_leaves_the_pack_alone(tmp_path: Path) -> None:
    """A batch is a copy: the mapped file is read-only."""
    pack, images = write_pack(tmp_path, SAME)
    store = ImageStore(pack, np.arange(10), CPU)
    store.batch(torch.arange(10)).groups[0].pixels.zero_()
    np.testing.assert_array_equal(pack.image(9), images[9])


def test_an_epochs_order_is_a_permutation_of_seed_and_epoch() -> None:
    """Each epoch shows every image once, in an order of its own that (seed, epoch) alone decides."""
    order = epoch_order(1000, seed=1, epoch=2)
    assert order.dtype == torch.int64
    assert torch.equal(order.sort().values, torch.arange(1000))
    assert torch.equal(order, epoch_order(1000, seed=1, epoch=2))
    for seed, epoch in ((1, 3), (2, 2), (2, 1)):
        agreeing = (order == epoch_order(1000, seed=seed, epoch=epoch)).sum()
        assert agreeing < 10  # 1 expected of unrelated orders


def test_model_inputs_are_what_serving_computes(tmp_path: Path) -> None:
    """Each image goes through the preprocessing of queries."""
    pack, images = write_pack(tmp_path, RAGGED)
    preprocessing = Preprocessing(image_size=16, crop_fraction=0.875)
    inputs = model_inputs(pack, np.array([3, 0, 8]), preprocessing)
    assert inputs.shape == (3, 16, 16, 3)
    for row, position in enumerate([3, 0, 8]):
        np.testing.assert_array_equal(inputs[row], to_input(images[position], preprocessing))


def test_pixels_go_to_the_gpu_if_they_leave_half_of_it_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pack is held on the device up to half of its free memory; on the CPU the mapped file stays the store."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2000, 4000))
    assert data._fits(torch.empty(1000, dtype=torch.uint8), torch.device("cuda"))
    assert not data._fits(torch.empty(1001, dtype=torch.uint8), torch.device("cuda"))
    assert not data._fits(torch.empty(1, dtype=torch.uint8), CPU)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("sizes", [SAME, RAGGED], ids=["same", "ragged"])
def test_a_batch_on_cuda_is_the_cpus(tmp_path: Path, sizes: list[tuple[int, int]]) -> None:
    """CUDA gathers the same pixels, without waiting for the device."""
    pack, _ = write_pack(tmp_path, sizes)
    positions, indices = pack.split("train"), torch.tensor([6, 0, 3])
    store = ImageStore(pack, positions, torch.device("cuda"))
    torch.cuda.set_sync_debug_mode("error")
    try:
        batch = store.batch(indices)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    expected = ImageStore(pack, positions, CPU).batch(indices)
    for group, on_cpu in zip(batch.groups, expected.groups, strict=True):
        assert group.pixels.is_cuda
        assert torch.equal(group.rows, on_cpu.rows)
        assert torch.equal(group.pixels.cpu(), on_cpu.pixels)
