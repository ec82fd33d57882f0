"""Exported files against the network in torch."""

import json
import pickle
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray

import models.export
from models.config import PretrainRecipe
from models.embedder import Embedder
from models.export import ParityError, export_model, load_model
from models.simclr import SimCLR
from tests.models.exported import RECIPE, network
from tests.models.image_files import noise

IMAGES = noise(7 * 32, 32, seed=1).reshape(7, 32, 32, 3)  # (7, 32, 32, 3)


def in_torch(images: NDArray[np.uint8], model: SimCLR) -> dict[str, NDArray[np.float32]]:
    """What the network itself gives, with the input written out: channels first, 255 becomes 1."""
    x = torch.tensor(np.moveaxis(images, 3, 1) / 255.0, dtype=torch.float32)  # (M, 3, S, S)
    with torch.no_grad():
        h, z = model.eval()(x)
    return {"h": h.numpy(), "z": z.numpy()}


@pytest.mark.parametrize("layer", ["h", "z"])
def test_the_onnx_file_computes_the_network(exported_folder: Path, layer: str) -> None:
    """From uint8 images, h and z equal the network's in evaluation mode, to float32's accuracy."""
    embeddings = Embedder(exported_folder / "model.onnx", num_threads=1).embed(IMAGES, layer)
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(embeddings, in_torch(IMAGES, network())[layer], rtol=1e-4, atol=1e-5)


def test_the_batch_doesn_t_change_a_row(exported_folder: Path) -> None:
    """One image alone has the embedding that it has among seven."""
    embedder = Embedder(exported_folder / "model.onnx", num_threads=1)
    together = embedder.embed(IMAGES)
    alone = np.concatenate([embedder.embed(image[None]) for image in IMAGES])
    np.testing.assert_allclose(alone, together, rtol=1e-5, atol=1e-6)


def test_the_onnx_file_describes_itself(exported_folder: Path) -> None:
    """Input, outputs and metadata of the file say what it takes, gives and was trained by."""
    session = ort.InferenceSession(exported_folder / "model.onnx")
    assert [(i.name, i.type, i.shape) for i in session.get_inputs()] == [
        ("images", "tensor(uint8)", ["batch", 32, 32, 3])
    ]
    assert [(o.name, o.type, o.shape) for o in session.get_outputs()] == [
        ("h", "tensor(float)", ["batch", 128]),
        ("z", "tensor(float)", ["batch", 16]),
    ]
    metadata = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}
    assert PretrainRecipe.model_validate(metadata["recipe"]) == RECIPE
    assert metadata["preprocessing"] == RECIPE.preprocessing.model_dump()
    assert metadata["layers"] == {"h": 128, "z": 16}
    assert metadata["format_version"] == 1


def test_the_onnx_file_names_no_source_path(exported_folder: Path) -> None:
    """The exporter's stack traces, with the paths of the machine that trained, are left out."""
    content = (exported_folder / "model.onnx").read_bytes()
    assert b"stack_trace" not in content
    assert str(Path(models.export.__file__).parent).encode() not in content


def test_the_description(exported_folder: Path) -> None:
    """model.json says recipe, preprocessing, layers and the parity, which is within rounding of 1."""
    description = json.loads((exported_folder / "model.json").read_text())
    assert PretrainRecipe.model_validate(description["recipe"]) == RECIPE
    assert description["preprocessing"] == RECIPE.preprocessing.model_dump()
    assert description["layers"] == {"h": 128, "z": 16}
    assert description["parity_cosine"] == pytest.approx(1, abs=1e-6)


def test_export_is_quiet_and_leaves_the_network_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Exporting a network in training, channels last, prints nothing and changes nothing of it."""
    model = network().to(memory_format=torch.channels_last)
    before = {name: w.clone() for name, w in model.state_dict().items()}
    returned = export_model(model, RECIPE, IMAGES, tmp_path)
    assert capfd.readouterr() == ("", "")
    assert model.training
    assert all(torch.equal(w, before[name]) for name, w in model.state_dict().items())
    assert model.encoder.get_parameter("layer1.0.conv1.weight").is_contiguous(memory_format=torch.channels_last)
    assert returned == json.loads((tmp_path / "model.json").read_text())
    assert {path.name for path in tmp_path.iterdir()} == {"model.onnx", "encoder.pt", "model.json"}


def test_load_model_returns_the_network(exported_folder: Path) -> None:
    """The loaded network has the exported weights and recipe and is in evaluation mode."""
    model, recipe = load_model(exported_folder)
    expected = network().state_dict()
    assert recipe == RECIPE
    assert not model.training
    assert model.state_dict().keys() == expected.keys()
    assert all(torch.equal(w, expected[name]) for name, w in model.state_dict().items())


@pytest.mark.parametrize("name", ["pixels", "resnet10"])
def test_z_may_be_h(tmp_path: Path, name: str) -> None:
    """A model without a head exports h under both names; a black image, whose raw pixels are 0, has parity 1."""
    recipe = PretrainRecipe.model_validate(
        {"encoder": {"name": name, "width": 0.25}, "head": {"num_layers": 0}, "schedule": {"epochs": 0}}
    )
    images = IMAGES.copy()
    images[0] = 0
    description = export_model(network(recipe), recipe, images, tmp_path)
    assert description["parity_cosine"] == pytest.approx(1, abs=1e-6)
    embedder = Embedder(tmp_path / "model.onnx", num_threads=1)
    h = embedder.embed(images)
    assert (embedder.embed(images, "z") == h).all()
    if name == "pixels":
        np.testing.assert_allclose(h, np.moveaxis(images, 3, 1).reshape(7, -1) / 255.0, rtol=1e-6)


def test_a_vit_s_onnx_file_computes_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """From one, two and five images, h and z of the file are the network's; exporting, channels last, is quiet."""
    recipe = PretrainRecipe.model_validate({"encoder": {"name": "vit_small", "width": 0.25, "patch_size": 8}})
    model = network(recipe)
    with torch.no_grad():
        for w in model.encoder.parameters():
            w.add_(torch.randn_like(w), alpha=0.1)  # biases and class token are drawn as 0
    description = export_model(model.to(memory_format=torch.channels_last), recipe, IMAGES, tmp_path)
    assert capfd.readouterr() == ("", "")
    assert description["layers"] == {"h": 96, "z": 128}
    assert description["parity_cosine"] == pytest.approx(1, abs=1e-6)
    embedder = Embedder(tmp_path / "model.onnx", num_threads=1)
    loaded, _ = load_model(tmp_path)
    for num_images in (1, 2, 5):
        expected = in_torch(IMAGES[:num_images], model)
        again = in_torch(IMAGES[:num_images], loaded)
        for layer in ("h", "z"):
            np.testing.assert_allclose(
                embedder.embed(IMAGES[:num_images], layer), expected[layer], rtol=1e-3, atol=1e-4
            )
            np.testing.assert_allclose(again[layer], expected[layer], rtol=1e-4, atol=1e-5)


class Wrong(Embedder):
    """An embedder whose z has the last row in another direction."""

    def embed(self, images: NDArray[np.uint8], layer: str = "h") -> NDArray[np.float32]:
        embeddings = super().embed(images, layer)
        if layer == "z":
            embeddings[-1, 0] += 0.2 * float(np.linalg.norm(embeddings[-1]))
        return embeddings


def test_a_model_that_computes_something_else_isn_t_described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One image and layer off in direction fail the export, and model.json, which makes it whole, is missing."""
    monkeypatch.setattr(models.export, "Embedder", Wrong)
    with pytest.raises(ParityError, match=r"at least 0\.999, not 0\.9"):
        export_model(network(), RECIPE, IMAGES, tmp_path)
    assert not (tmp_path / "model.json").exists()


def test_a_network_of_nan_isn_t_exported(tmp_path: Path) -> None:
    """NaN is no parity."""
    model = network()
    torch.nn.init.constant_(model.encoder.get_parameter("conv1.weight"), float("nan"))
    with pytest.raises(ParityError, match="not nan"):
        export_model(model, RECIPE, IMAGES, tmp_path)


def test_weights_run_no_code(exported_folder: Path, tmp_path: Path) -> None:
    """A pickled object in encoder.pt is refused."""
    (tmp_path / "model.json").write_bytes((exported_folder / "model.json").read_bytes())
    torch.save(Path("touched"), tmp_path / "encoder.pt")
    with pytest.raises(pickle.UnpicklingError):
        load_model(tmp_path)


def test_another_format_version_is_refused(exported_folder: Path, tmp_path: Path) -> None:
    """model.json of another version is refused by its number."""
    description = json.loads((exported_folder / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps(description | {"format_version": 2}))
    with pytest.raises(ValueError, match="format version 2"):
        load_model(tmp_path)
