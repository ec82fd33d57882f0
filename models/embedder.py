"""The served model: an exported ONNX file, opened by ONNX Runtime. No torch.

Legend: M images, S image side, D size of a layer.

The file is trusted: whoever opens it has checked its sha256 (a flipped bit loads silently).
"""

import json
from pathlib import Path

import numpy as np
import onnxruntime as ort  # type: ignore[import-untyped]  # it ships no types
from numpy.typing import NDArray

from models.config import Preprocessing

FORMAT_VERSION = 1  # of the ONNX file's inputs, outputs and metadata, and of model.json

# The default cuDNN search times every algorithm anew for each batch size it meets, which takes seconds.
CUDA_OPTIONS = {"cudnn_conv_algo_search": "HEURISTIC"}


class Embedder:
    """Computes h or another exported layer of decoded images. Threads may share one.

    `num_threads` is ONNX Runtime's threads a call; 0 takes one a core. Raises ValueError if the file was exported
    in another format version.
    """

    def __init__(self, path: Path, *, num_threads: int) -> None:
        self._session = ort.InferenceSession(path, _session_options(num_threads), providers=_providers())
        metadata = self._session.get_modelmeta().custom_metadata_map
        if metadata.get("format_version") != str(FORMAT_VERSION):
            raise ValueError(
                f"{path}: format version {metadata.get('format_version')}, this release reads {FORMAT_VERSION}"
            )
        self.preprocessing = Preprocessing.model_validate_json(metadata["preprocessing"])
        self.layers: dict[str, int] = json.loads(metadata["layers"])  # name -> D

    def embed(self, images: NDArray[np.uint8], layer: str = "h") -> NDArray[np.float32]:
        """Images as `to_input` makes them, (M, S, S, 3) uint8, to a layer, (M, D) float32.

        Raises ValueError for another dtype or shape, no image, or a layer that the model doesn't export.
        """
        side = self.preprocessing.image_size
        if layer not in self.layers:
            raise ValueError(f"layer: one of {', '.join(self.layers)}, not {layer!r}")
        if images.dtype != np.uint8:
            raise ValueError(f"images: uint8, not {images.dtype}")
        if images.shape[1:] != (side, side, 3) or not images.size:
            raise ValueError(f"images: (M, {side}, {side}, 3) with M at least 1, not {images.shape}")
        outputs: list[NDArray[np.float32]] = self._session.run([layer], {"images": images})
        return outputs[0]


def _session_options(num_threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = num_threads
    # A spinning thread holds its core while it waits: on a shared machine that cost up to half the throughput.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _providers() -> list[str | tuple[str, dict[str, str]]]:
    """The GPU where this build of ONNX Runtime has one, else the CPU."""
    gpu = "CUDAExecutionProvider" in ort.get_available_providers()
    return [("CUDAExecutionProvider", CUDA_OPTIONS), "CPUExecutionProvider"] if gpu else ["CPUExecutionProvider"]
