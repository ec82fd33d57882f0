"""Exported files against the network in torch."""

import base64
import hashlib
import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray

import models.export
from models.config import PretrainRecipe
from models.embedder import Embedder
from models.export import ParityError, Sample, export_model, load_model
from models.onnx_graph import Servable, graph_of
from models.quantization import to_int8
from models.simclr import SimCLR
from models.variants import FILES, VARIANTS, Variant
from tests.models.exported import RECIPE, network
from tests.models.image_files import noise

IMAGES = noise(7 * 32, 32, seed=1).reshape(7, 32, 32, 3)  # (7, 32, 32, 3)


CALIBRATION = noise(16 * 32, 32, seed=2).reshape(16, 32, 32, 3)  # (16, 32, 32, 3)
SAMPLE = Sample(IMAGES, CALIBRATION)
LAYERS = {"stem": 16, "layer1.0": 16, "layer2.0": 32, "layer3.0": 64, "h": 128, "g1": 128, "z": 16}
FLOAT32: tuple[Variant, ...] = ("float32",)


def in_torch(images: NDArray[np.uint8], model: SimCLR) -> dict[str, NDArray[np.float32]]:
    """What the network itself gives, with the input written out: channels first, 255 becomes 1."""
    x = torch.tensor(np.moveaxis(images, 3, 1) / 255.0, dtype=torch.float32)  # (M, 3, S, S)
    with torch.no_grad():
        h, z = model.eval()(x)
        inner = model.layers(x, model.layer_names)
    return {name: layer.numpy() for name, layer in {**inner, "h": h, "z": z}.items()}


def metadata_of(path: Path) -> dict[str, Any]:
    """The metadata of an ONNX file."""
    session = ort.InferenceSession(path)
    return {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}


@pytest.mark.parametrize("layer", LAYERS)
def test_the_onnx_file_computes_the_network(exported_folder: Path, layer: str) -> None:
    """From uint8 images, every layer equals the network's in evaluation mode, to float32's accuracy."""
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


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_s_file_says_what_it_is(exported_folder: Path, variant: Variant) -> None:
    """Recipe, classes, preprocessing, layers, format, agreement and the sha256 of the weights are in each file."""
    metadata = metadata_of(exported_folder / FILES[variant])
    description = json.loads((exported_folder / "model.json").read_text())
    assert PretrainRecipe.model_validate(metadata["recipe"]) == RECIPE
    assert metadata["preprocessing"] == RECIPE.preprocessing.model_dump()
    assert list(metadata["layers"].items()) == list(LAYERS.items())  # in order
    assert (metadata["format_version"], metadata["variant"], metadata["classes"]) == (2, variant, ["a", "b"])
    assert metadata["encoder_sha256"] == hashlib.sha256((exported_folder / "encoder.pt").read_bytes()).hexdigest()
    assert {"status": "published", **metadata["agreement"]} == description["variants"][variant]
    assert Embedder(exported_folder / FILES[variant], num_threads=1).variant == variant


def test_h_is_not_slowed_by_the_layers_inside(exported_folder: Path) -> None:
    """What a file computes has one mean, that of h, and no batch norm; with its second piece it is whole and valid."""
    content = (exported_folder / "model.onnx").read_bytes()
    operations = [node.op_type for node in onnx.ModelProto.FromString(content).graph.node]
    assert operations.count("ReduceMean") == 1
    assert operations.count("Relu") == 10
    assert "BatchNormalization" not in operations
    inner = base64.b64decode(metadata_of(exported_folder / "model.onnx")["inner_layers"])
    assert len(inner) < 5_000
    whole = onnx.ModelProto.FromString(content + inner)
    onnx.checker.check_model(whole, full_check=True)
    assert {output.name for output in whole.graph.output} == set(LAYERS)


def test_variants_are_smaller_and_agree(exported_folder: Path) -> None:
    """float16 has half of float32's bytes and int8 less; their figures in model.json are those measured here."""
    num_bytes = {variant: (exported_folder / FILES[variant]).stat().st_size for variant in VARIANTS}
    assert num_bytes["float16"] < 0.55 * num_bytes["float32"]
    assert num_bytes["int8"] < 0.5 * num_bytes["float32"]
    outcomes = json.loads((exported_folder / "model.json").read_text())["variants"]
    images = noise(7 * 32, 32).reshape(7, 32, 32, 3)  # those of the fixture
    for variant in ("float32", "int8"):  # what a GPU makes of float16 is rounded more often than here
        embedder = Embedder(exported_folder / FILES[variant], num_threads=1)
        for layer, expected in in_torch(images, network()).items():
            h = embedder.embed(images, layer)
            cosine = (h * expected).sum(1) / np.linalg.norm(h, axis=1) / np.linalg.norm(expected, axis=1)
            assert outcomes[variant]["cosine"][layer]["min"] == pytest.approx(cosine.min(), abs=1e-5)
            assert outcomes[variant]["cosine"][layer]["mean"] == pytest.approx(cosine.mean(), abs=1e-5)
    assert {outcome["status"] for outcome in outcomes.values()} == {"published"}
    assert 0.9999 < outcomes["float16"]["cosine"]["h"]["min"] < 1  # not float32 under another name
    assert outcomes["int8"]["cosine"]["h"]["min"] < outcomes["float16"]["cosine"]["h"]["min"]


def test_int8_computes_in_8_bits(exported_folder: Path) -> None:
    """Every convolution and product reads and weighs 8-bit values, each output channel by a scale of its own."""
    graph = onnx.load(exported_folder / "model-int8.onnx").graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    made_by = {output: node for node in graph.node for output in node.output}
    multiplied = [node for node in graph.node if node.op_type in {"Conv", "Gemm"}]
    assert len(multiplied) == 14
    for node in multiplied:
        x, w = (made_by[name] for name in node.input[:2])
        assert (x.op_type, w.op_type) == ("DequantizeLinear", "DequantizeLinear")
        weight, scale = tensors[w.input[0]], tensors[w.input[1]]
        assert weight.data_type == onnx.TensorProto.INT8
        assert list(scale.dims) == [max(weight.dims[0], 1) if node.op_type == "Conv" else max(scale.dims)]
        assert tensors[x.input[2]].data_type == onnx.TensorProto.UINT8


def test_ranges_of_int8_are_read_off_the_calibration_images_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An export quantises by these; the same give a bit-equal graph, and others another one."""
    seen = []
    monkeypatch.setattr(models.export, "to_int8", lambda graph, images: seen.append(images) or to_int8(graph, images))
    export_model(network(), RECIPE, SAMPLE, tmp_path, ["int8"])
    assert not (tmp_path / "model-float16.onnx").exists()
    [calibrated_on] = seen
    assert calibrated_on is CALIBRATION
    graph = graph_of(Servable(network()).eval(), 32)
    one, same, other = (to_int8(graph, images) for images in (CALIBRATION, CALIBRATION.copy(), IMAGES))
    assert one.graph.SerializeToString(deterministic=True) == same.graph.SerializeToString(deterministic=True)
    assert one.graph.SerializeToString(deterministic=True) != other.graph.SerializeToString(deterministic=True)


def test_a_spoilt_variant_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An int8 graph with one wrong scale has no file; its figure and the reason are in model.json, float32 is there."""

    def spoilt(*arguments: Any) -> onnx.ModelProto:
        model = to_int8(*arguments)
        scale = next(t for t in model.graph.initializer if t.name == "relu_3_scale")
        scale.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(scale) / 8, scale.name))
        return model

    monkeypatch.setattr(models.export, "to_int8", spoilt)
    description = export_model(network(), RECIPE, SAMPLE, tmp_path, ["int8"])
    refused = description["variants"]["int8"]
    assert refused["status"] == "refused"
    assert refused["cosine"]["h"]["min"] < 0.99
    assert refused["reason"].startswith("int8: cosine of h to the trained network's: at least 0.99, not 0.")
    assert description["variants"]["float32"]["status"] == "published"
    assert description == json.loads((tmp_path / "model.json").read_text())
    assert {path.name for path in tmp_path.iterdir()} == {"model.onnx", "encoder.pt", "model.json"}


def test_what_half_precision_can_t_hold_is_refused(tmp_path: Path) -> None:
    """A layer beyond 65,504 overflows on a GPU: that is no file, although a CPU would hold it in float32."""
    model = network()
    with torch.no_grad():
        for block in ("layer2.0", "layer3.0", "layer4.0"):  # the weights alone could still be held
            model.encoder.get_parameter(f"{block}.bn2.weight").mul_(1e3)
    refused = export_model(model, RECIPE, SAMPLE, tmp_path, ["float16"])["variants"]["float16"]
    assert refused["reason"] == "float16: cosine of h to the trained network's: at least 0.995, not nan"
    assert refused["cosine"]["h"] == {"min": None, "mean": None}
    assert not (tmp_path / "model-float16.onnx").exists()


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
    assert description["layers"] == LAYERS
    assert description["parity_cosine"] == pytest.approx(1, abs=1e-6)


def test_export_is_quiet_and_leaves_the_network_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Exporting a network in training, channels last, prints nothing and changes nothing of it."""
    model = network().to(memory_format=torch.channels_last)
    before = {name: w.clone() for name, w in model.state_dict().items()}
    returned = export_model(model, RECIPE, SAMPLE, tmp_path)
    assert capfd.readouterr() == ("", "")
    assert model.training
    assert all(torch.equal(w, before[name]) for name, w in model.state_dict().items())
    assert model.encoder.get_parameter("layer1.0.conv1.weight").is_contiguous(memory_format=torch.channels_last)
    assert returned == json.loads((tmp_path / "model.json").read_text())
    assert {path.name for path in tmp_path.iterdir()} == {*FILES.values(), "encoder.pt", "model.json"}


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
    description = export_model(network(recipe), recipe, Sample(images, images), tmp_path)
    assert description["parity_cosine"] == pytest.approx(1, abs=1e-6)
    embedder = Embedder(tmp_path / "model.onnx", num_threads=1)
    h = embedder.embed(images)
    assert (embedder.embed(images, "z") == h).all()
    published = {"float32"} if name == "pixels" else set(VARIANTS)  # pixels have no weights
    assert set(description["variants"]) == published
    if name == "pixels":
        np.testing.assert_allclose(h, np.moveaxis(images, 3, 1).reshape(7, -1) / 255.0, rtol=1e-6)


def test_a_vit_s_onnx_file_computes_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """From one, two and five images, the layers of the file are the network's; exporting, channels last, is quiet."""
    recipe = PretrainRecipe.model_validate({"encoder": {"name": "vit_small", "width": 0.25, "patch_size": 8}})
    model = network(recipe)
    with torch.no_grad():
        for w in model.encoder.parameters():
            w.add_(torch.randn_like(w), alpha=0.1)  # biases and class token are drawn as 0
    description = export_model(model.to(memory_format=torch.channels_last), recipe, SAMPLE, tmp_path)
    assert capfd.readouterr() == ("", "")
    assert [record.message for record in caplog.records if record.name == "root"] == []
    assert description["layers"] == {**{f"blocks.{i}": 96 for i in range(11)}, "h": 96, "g1": 96, "z": 128}
    assert {variant: outcome["status"] for variant, outcome in description["variants"].items()} == dict.fromkeys(
        VARIANTS, "published"
    )
    assert description["parity_cosine"] == pytest.approx(1, abs=1e-6)
    embedder = Embedder(tmp_path / "model.onnx", num_threads=1)
    loaded, _ = load_model(tmp_path)
    for num_images in (1, 2, 5):
        expected = in_torch(IMAGES[:num_images], model)
        again = in_torch(IMAGES[:num_images], loaded)
        for layer in description["layers"]:
            np.testing.assert_allclose(
                embedder.embed(IMAGES[:num_images], layer), expected[layer], rtol=1e-3, atol=1e-4
            )
            np.testing.assert_allclose(again[layer], expected[layer], rtol=1e-4, atol=1e-5)


class Wrong(Embedder):
    """An embedder one layer of which, if it has that, has the last row in another direction."""

    wrong: ClassVar[str]

    def embed_layers(self, images: NDArray[np.uint8], layers: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        outputs = super().embed_layers(images, layers)
        if self.wrong in outputs:
            outputs[self.wrong][-1, 0] += 0.2 * float(np.linalg.norm(outputs[self.wrong][-1]))
        return outputs


@pytest.mark.parametrize("layer", ["z", "layer2.0"])
def test_a_model_that_computes_something_else_isn_t_described(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layer: str
) -> None:
    """One image and layer off in direction fail the export, and model.json, which makes it whole, is missing."""
    monkeypatch.setattr(models.export, "Embedder", Wrong)
    monkeypatch.setattr(Wrong, "wrong", layer, raising=False)
    with pytest.raises(ParityError, match=rf"float32: cosine of {layer} .* at least 0\.999, not 0\.9"):
        export_model(network(), RECIPE, SAMPLE, tmp_path, FLOAT32)
    assert not (tmp_path / "model.json").exists()


def test_a_network_of_nan_isn_t_exported(tmp_path: Path) -> None:
    """NaN is no parity."""
    model = network()
    torch.nn.init.constant_(model.encoder.get_parameter("conv1.weight"), float("nan"))
    with pytest.raises(ParityError, match="not nan"):
        export_model(model, RECIPE, SAMPLE, tmp_path, FLOAT32)


def test_weights_run_no_code(exported_folder: Path, tmp_path: Path) -> None:
    """A pickled object in encoder.pt is refused."""
    (tmp_path / "model.json").write_bytes((exported_folder / "model.json").read_bytes())
    torch.save(Path("touched"), tmp_path / "encoder.pt")
    with pytest.raises(pickle.UnpicklingError):
        load_model(tmp_path)


def test_another_format_version_is_refused(exported_folder: Path, tmp_path: Path) -> None:
    """model.json of another version is refused by its number."""
    description = json.loads((exported_folder / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps(description | {"format_version": 3}))
    with pytest.raises(ValueError, match="format version 3, this release reads 1 and 2"):
        load_model(tmp_path)
