"""The embedder's contract with its callers; test_export.py holds its numbers against torch."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from models.embedder import Embedder
from tests.models.exported import RECIPE
from tests.models.image_files import noise

IMAGES = noise(5 * 32, 32).reshape(5, 32, 32, 3)


@pytest.fixture(scope="module")
def embedder(exported_folder: Path) -> Embedder:
    """An open model."""
    return Embedder(exported_folder / "model.onnx", num_threads=1)


def test_describes_the_model(embedder: Embedder) -> None:
    """Preprocessing and layers come from the file."""
    assert embedder.preprocessing == RECIPE.preprocessing
    assert embedder.layers == {"h": 128, "z": 16}


def test_h_is_the_default_layer(embedder: Embedder) -> None:
    """Without a layer, embed gives h."""
    assert (embedder.embed(IMAGES) == embedder.embed(IMAGES, "h")).all()
    assert embedder.embed(IMAGES, "z").shape == (5, 16)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES.astype(np.float32), "uint8, not float32"),
        (IMAGES[0], r"\(M, 32, 32, 3\) with M at least 1, not \(32, 32, 3\)"),
        (IMAGES[:, :31], r"not \(5, 31, 32, 3\)"),
        (IMAGES.transpose(0, 3, 1, 2), r"not \(5, 3, 32, 32\)"),
        (IMAGES[:0], r"not \(0, 32, 32, 3\)"),
        (np.array(0, np.uint8), r"not \(\)"),
    ],
)
def test_other_inputs_are_refused(embedder: Embedder, images: NDArray[np.uint8], message: str) -> None:
    """Another dtype or shape, or no image, is a ValueError that says what is taken."""
    with pytest.raises(ValueError, match=message):
        embedder.embed(images)


def test_unknown_layers_are_refused(embedder: Embedder) -> None:
    """A layer that isn't exported is a ValueError that lists those that are."""
    with pytest.raises(ValueError, match="layer: one of h, z, not 'layer3'"):
        embedder.embed(IMAGES, "layer3")


def test_strided_views_are_read_by_their_pixels(embedder: Embedder) -> None:
    """An array that isn't contiguous embeds as its copy does."""
    assert (embedder.embed(IMAGES[::-2, :, ::-1]) == embedder.embed(IMAGES[::-2, :, ::-1].copy())).all()


@pytest.mark.parametrize("num_threads", [0, 1, 2])
def test_threads_don_t_change_the_result(exported_folder: Path, embedder: Embedder, num_threads: int) -> None:
    """Any number of threads inside, and many callers at once, give the same rows."""
    shared = Embedder(exported_folder / "model.onnx", num_threads=num_threads)
    expected = embedder.embed(IMAGES)
    with ThreadPoolExecutor(4) as callers:
        for h in callers.map(lambda _: shared.embed(IMAGES), range(16)):
            np.testing.assert_allclose(h, expected, rtol=1e-5, atol=1e-6)


def test_another_format_version_is_refused(exported_folder: Path, tmp_path: Path) -> None:
    """A file of another version is refused by its number."""
    model = onnx.load(exported_folder / "model.onnx")
    onnx.helper.set_model_props(model, {"format_version": "2"})
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(ValueError, match="format version 2, this release reads 1"):
        Embedder(tmp_path / "model.onnx", num_threads=1)


def test_serving_needs_no_torch() -> None:
    """Decoding and embedding import no torch, even indirectly."""
    code = "import sys, models.embedder, models.preprocess; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
