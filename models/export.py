"""Export: from a trained network to the files that serve and probe it.

Legend: M images, S image side, C size of h, D size of z.

    model.onnx    images (batch, S, S, 3) uint8 -> h (batch, C), z (batch, D) float32; what the embedder opens
    encoder.pt    the network's state_dict; what probes and further training open
    model.json    {"format_version", "recipe", "preprocessing", "layers", "parity_cosine"}
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.config import PretrainRecipe
from models.embedder import FORMAT_VERSION, Embedder
from models.simclr import SimCLR

OPSET = 20
MIN_PARITY_COSINE = 0.999


class ParityError(RuntimeError):
    """ONNX Runtime doesn't compute what the trained network does."""


class Servable(nn.Module):
    """The network from pixels as they are decoded, so that no caller scales them or moves axes on its own."""

    def __init__(self, model: SimCLR) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(M, S, S, 3) uint8 -> h (M, C), z (M, D) float32."""
        x = images.permute(0, 3, 1, 2).to(torch.float32) / 255  # (M, 3, S, S)
        h, z = self.model(x)
        return h, z


def export_model(model: SimCLR, recipe: PretrainRecipe, images: NDArray[np.uint8], folder: Path) -> dict[str, Any]:
    """Write model.onnx, encoder.pt and model.json into `folder`; the model may live on any device.

    `images`, (M, S, S, 3) uint8, are embedded by ONNX Runtime and by torch in float32: the least cosine over images
    and layers is the result's `parity_cosine`. Returns what model.json holds.
    Raises ParityError, before model.json is written, if it is below MIN_PARITY_COSINE.
    """
    servable = Servable(_float32_copy(model, recipe)).eval()
    description: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "recipe": recipe.model_dump(mode="json"),
        "preprocessing": recipe.preprocessing.model_dump(mode="json"),
        "layers": {"h": model.encoder.size, "z": model.head.size},
    }
    _write_onnx(servable, recipe.preprocessing.image_size, description, folder / "model.onnx")
    torch.save(servable.model.state_dict(), folder / "encoder.pt")
    description["parity_cosine"] = _parity_cosine(servable, folder / "model.onnx", images)
    (folder / "model.json").write_text(json.dumps(description, indent=2))
    return description


def load_model(folder: Path) -> tuple[SimCLR, PretrainRecipe]:
    """The network that `export_model` wrote into `folder`, on the CPU in eval mode, and its recipe.

    Raises ValueError if it was exported in another format version.
    """
    description = json.loads((folder / "model.json").read_text())
    if description["format_version"] != FORMAT_VERSION:
        raise ValueError(f"{folder}: format version {description['format_version']}, not {FORMAT_VERSION}")
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


def _write_onnx(servable: Servable, image_size: int, description: dict[str, Any], path: Path) -> None:
    example = torch.zeros(2, image_size, image_size, 3, dtype=torch.uint8)  # of one image, torch would fix the batch
    program = torch.onnx.export(
        servable,
        (example,),
        dynamo=True,
        opset_version=OPSET,
        input_names=["images"],
        output_names=["h", "z"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        verbose=False,
    )
    assert program is not None
    for node in program.model.graph:
        node.metadata_props.clear()  # the exporter's stack traces: paths of this machine
    for key, value in description.items():
        program.model.metadata_props[key] = json.dumps(value)
    program.save(path, external_data=False)


@torch.no_grad()
def _parity_cosine(servable: Servable, path: Path, images: NDArray[np.uint8]) -> float:
    embedder = Embedder(path, num_threads=torch.get_num_threads())
    outputs = dict(zip(("h", "z"), servable(torch.from_numpy(images)), strict=True))
    parity = min(float(_cosines(embedder.embed(images, layer), outputs[layer].numpy()).min()) for layer in outputs)
    if not parity >= MIN_PARITY_COSINE:  # NaN too
        raise ParityError(f"cosine of ONNX Runtime's output to torch's: at least {MIN_PARITY_COSINE}, not {parity}")
    return parity


def _cosines(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """Row by row, (M, D) twice -> (M,); two zero rows (the raw pixels of a black image) have cosine 1."""
    dots = (a.astype(np.float64) * b).sum(axis=1)  # (M,)
    norms = np.linalg.norm(a.astype(np.float64), axis=1) * np.linalg.norm(b.astype(np.float64), axis=1)  # (M,)
    both_zero = ~a.any(axis=1) & ~b.any(axis=1)  # (M,)
    cosines: NDArray[np.float64] = np.where(both_zero, 1.0, dots / np.where(norms, norms, 1.0))
    return cosines
