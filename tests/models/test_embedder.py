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
    assert list(embedder.layers) == ["stem", "layer1.0", "layer2.0", "layer3.0", "h", "g1", "z"]
    assert (embedder.layers["h"], embedder.layers["z"]) == (128, 16)
    assert embedder.variant == "float32"


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
    with pytest.raises(ValueError, match=r"layer: one of stem, layer1\.0, .*, z, not 'layer3'"):
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


@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize("layer", ["h", "layer2.0"])
def test_a_lane_computes_the_same(exported_folder: Path, embedder: Embedder, layer: str, num_threads: int) -> None:
    """On one thread, also of a model that has only one, and beside other lanes and those who want all threads."""
    shared = Embedder(exported_folder / "model.onnx", num_threads=num_threads, has_lanes=True)
    expected = embedder.embed(IMAGES, layer)
    with ThreadPoolExecutor(4) as callers:
        for vectors in callers.map(lambda i: shared.embed(IMAGES, layer, in_lane=i % 2 == 0), range(8)):
            np.testing.assert_allclose(vectors, expected, rtol=1e-5, atol=1e-6)


def test_layers_come_together_as_they_come_alone(embedder: Embedder) -> None:
    """Several layers of one pass, in the order asked for, are those of a pass each."""
    together = embedder.embed_layers(IMAGES, ["z", "layer2.0", "h"])
    assert list(together) == ["z", "layer2.0", "h"]
    for layer, vectors in together.items():
        np.testing.assert_allclose(vectors, embedder.embed(IMAGES, layer), rtol=1e-5, atol=1e-6)


def test_a_file_may_be_deleted_once_it_is_open(exported_folder: Path, embedder: Embedder, tmp_path: Path) -> None:
    """A layer inside, which is opened when first asked for, is there after the file's name is gone; for all callers."""
    path = tmp_path / "model.onnx"
    path.write_bytes((exported_folder / "model.onnx").read_bytes())
    alone = Embedder(path, num_threads=1)
    path.unlink()
    expected = embedder.embed(IMAGES, "layer3.0")
    with ThreadPoolExecutor(4) as callers:
        for vectors in callers.map(lambda _: alone.embed(IMAGES, "layer3.0"), range(8)):
            assert (vectors == expected).all()


def test_a_file_of_the_first_format_is_served(exported_folder: Path, embedder: Embedder, tmp_path: Path) -> None:
    """A file of an older release, which names h and z alone, gives these as before, and says that it has no others."""
    model = onnx.load(exported_folder / "model.onnx")
    kept = {p.key: p.value for p in model.metadata_props if p.key in {"recipe", "preprocessing"}}
    onnx.helper.set_model_props(model, {**kept, "format_version": "1", "layers": '{"h": 128, "z": 16}'})
    onnx.save(model, tmp_path / "model.onnx")
    older = Embedder(tmp_path / "model.onnx", num_threads=1)
    assert (older.embed(IMAGES) == embedder.embed(IMAGES)).all()
    assert older.variant == "float32"
    with pytest.raises(ValueError, match="layer: one of h, z, not 'stem'"):
        older.embed(IMAGES, "stem")


def test_another_format_version_is_refused(exported_folder: Path, tmp_path: Path) -> None:
    """A file of another version is refused by its number."""
    model = onnx.load(exported_folder / "model.onnx")
    onnx.helper.set_model_props(model, {"format_version": "3"})
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(ValueError, match="format version 3, this release reads 1 and 2"):
        Embedder(tmp_path / "model.onnx", num_threads=1)


def test_serving_needs_no_torch() -> None:
    """Decoding and embedding import no torch, even indirectly."""
    code = "import sys, models.embedder, models.preprocess; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
