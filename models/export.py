"""Export: from a trained network to the files that serve and probe it.

Legend: M images, S image side, C size of h, D size of z.

    model.onnx           images (batch, S, S, 3) uint8 -> h (batch, C), z (batch, D) float32; what the embedder opens
    model-float16.onnx   the same in half precision, for GPUs
    model-int8.onnx      the same in 8 bits, for CPUs
    encoder.pt           the network's state_dict; what probes and further training open
    model.json           "format_version", "recipe", "preprocessing", "layers", "classes", "encoder_sha256",
                         "parity_cosine", "variants": {name: "status" published or refused, "reason", agreement}

A variant (models/variants.py) is published only if its vectors agree with the trained network's. Each ONNX file has all
of model.json but `parity_cosine` and `variants` in its metadata, and besides these its `variant`, its `agreement`, and
its `inner_layers` (models/embedder.py).
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import ModelProto

from models.agreement import Vectors, agreement
from models.config import PretrainRecipe
from models.embedder import FORMAT_VERSION, READABLE_VERSIONS, Embedder
from models.half_precision import rounded_to_float16, to_float16
from models.onnx_graph import SERVED_LAYERS, Servable, graph_of, split_inner_layers
from models.quantization import to_int8
from models.simclr import SimCLR
from models.variants import FILES, FLOORS, VARIANTS, Variant

BATCH_SIZE = 32


class ParityError(RuntimeError):
    """ONNX Runtime doesn't compute what the trained network does."""


@dataclass(frozen=True)
class Sample:
    """What an export sees of the data set that its network was trained on."""

    held_out: NDArray[np.uint8]  # (M, S, S, 3), on which variants are compared with the network
    calibration: NDArray[np.uint8]  # (M, S, S, 3), training images, off which the ranges of int8 are read
    classes: Sequence[str] = ()


def export_model(
    model: SimCLR, recipe: PretrainRecipe, sample: Sample, folder: Path, variants: Sequence[Variant] = VARIANTS
) -> dict[str, Any]:
    """Write the files into an empty `folder`; the model may live on any device.

    float32 is made in any case, and `parity_cosine` is its least cosine to torch over held-out images and layers; of an
    encoder without weights, such as `pixels`, it is the only variant. One that is below its floor is not written.
    Returns what model.json holds. Raises ParityError, before model.json is written, if float32 is below its floor.
    """
    servable = Servable(_float32_copy(model, recipe)).eval()
    expected = _vectors_in_torch(servable, sample.held_out)
    torch.save(servable.model.state_dict(), folder / "encoder.pt")
    about: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "recipe": recipe.model_dump(mode="json"),
        "preprocessing": recipe.preprocessing.model_dump(mode="json"),
        "layers": {name: h.shape[1] for name, h in expected.items()},
        "classes": list(sample.classes),
        "encoder_sha256": hashlib.sha256((folder / "encoder.pt").read_bytes()).hexdigest(),
    }
    graph = graph_of(servable, recipe.preprocessing.image_size)
    has_weights = any(True for _ in servable.model.encoder.parameters())
    outcomes = {
        variant: _publish(graph, {**about, "variant": variant}, expected, sample, folder)
        for variant in VARIANTS
        if variant == "float32" or (variant in variants and has_weights)
    }
    if reason := outcomes["float32"].get("reason"):
        raise ParityError(reason)
    least = min(cosine["min"] for cosine in outcomes["float32"]["cosine"].values())
    description = {**about, "parity_cosine": least, "variants": outcomes}
    (folder / "model.json").write_text(json.dumps(description, indent=2))
    return description


def load_model(folder: Path) -> tuple[SimCLR, PretrainRecipe]:
    """The network that `export_model` wrote into `folder`, on the CPU in eval mode, and its recipe.

    Raises ValueError if it was exported in another format version.
    """
    description = json.loads((folder / "model.json").read_text())
    if description["format_version"] not in READABLE_VERSIONS:
        readable = " and ".join(map(str, READABLE_VERSIONS))
        raise ValueError(f"{folder}: format version {description['format_version']}, this release reads {readable}")
    recipe = PretrainRecipe.model_validate(description["recipe"])
    state = torch.load(folder / "encoder.pt", map_location="cpu", weights_only=True)
    model = SimCLR(recipe)
    model.load_state_dict(state)
    return model.eval(), recipe


def _float32_copy(model: SimCLR, recipe: PretrainRecipe) -> SimCLR:
    """The same network with its own weights on the CPU, contiguous, with plain batch norm."""
    copy = SimCLR(recipe)
    copy.load_state_dict(model.state_dict())
    return copy


@torch.no_grad()
def _vectors_in_torch(servable: Servable, images: NDArray[np.uint8]) -> Vectors:
    batches = [servable(batch) for batch in torch.split(torch.from_numpy(images), BATCH_SIZE)]
    return {name: torch.cat(parts).numpy() for name, *parts in zip(servable.layer_names, *batches, strict=True)}


def _converted(graph: ModelProto, variant: Variant, sample: Sample) -> ModelProto:
    match variant:
        case "float16":
            return to_float16(graph)
        case "int8":
            return to_int8(graph, sample.calibration)
        case _:
            return graph


def _publish(
    graph: ModelProto, about: Mapping[str, Any], expected: Vectors, sample: Sample, folder: Path
) -> dict[str, Any]:
    """Write a variant's file, compare it with the network, and take it away again if it is below its floor."""
    variant: Variant = about["variant"]
    path = folder / FILES[variant]
    file = _save(_converted(graph, variant, sample), about, path)
    figures = agreement(_vectors_in_onnx(path, sample.held_out), expected)
    reason = _refusal(variant, figures["cosine"])
    if variant == "float16" and not reason:
        figures = agreement(_vectors_in_half_precision(graph, about, sample.held_out), expected)
        reason = _refusal(variant, figures["cosine"])
    if reason:
        path.unlink()
        return {"status": "refused", "reason": reason, **figures}
    file.metadata_props.add(key="agreement", value=json.dumps(figures))
    onnx.save(file, path)
    return {"status": "published", **figures}


def _save(graph: ModelProto, about: Mapping[str, Any], path: Path) -> ModelProto:
    """Write the graph as the embedder opens it; what is in the file."""
    file, inner_layers = split_inner_layers(graph)
    encoded = base64.b64encode(inner_layers.SerializeToString()).decode()
    for key, value in {**about, "inner_layers": encoded}.items():
        file.metadata_props.add(key=key, value=json.dumps(value))
    onnx.save(file, path)
    return file


def _vectors_in_half_precision(graph: ModelProto, about: Mapping[str, Any], images: NDArray[np.uint8]) -> Vectors:
    """All layers as a GPU computes them from the float16 file."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "rounded.onnx"
        _save(rounded_to_float16(graph), about, path)
        return _vectors_in_onnx(path, images)


def _vectors_in_onnx(path: Path, images: NDArray[np.uint8]) -> Vectors:
    """All layers, by the file as it is opened to serve: h and z come from a session of their own."""
    embedder = Embedder(path, num_threads=torch.get_num_threads())
    batches = [images[start : start + BATCH_SIZE] for start in range(0, len(images), BATCH_SIZE)]
    parts = [
        embedder.embed_layers(batch, list(embedder.layers)) | embedder.embed_layers(batch, SERVED_LAYERS)
        for batch in batches
    ]
    return {layer: np.concatenate([part[layer] for part in parts]) for layer in embedder.layers}


def _refusal(variant: Variant, cosine: Mapping[str, Mapping[str, float | None]]) -> str | None:
    """Why a variant isn't published, or None. A cosine that is no number is below any floor."""
    for layer in cosine if variant == "float32" else ("h",):
        least = cosine[layer]["min"]
        if least is None or least < FLOORS[variant]:
            measured = "nan" if least is None else f"{least:.6g}"
            return f"{variant}: cosine of {layer} to the trained network's: at least {FLOORS[variant]}, not {measured}"
    return None
