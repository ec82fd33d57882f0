"""The served model: an exported ONNX file, opened by ONNX Runtime. No torch.

Legend: M images, S image side, D size of a layer.

A file gives h and z. Its metadata hold a second, small piece, `inner_layers`: the nodes and outputs of the pooled
layers inside. ONNX Runtime would compute these with every h, and fuse less, as outputs stay whole: h would take 3 to 7%
longer (docs/decisions/0013). Protobuf reads two messages one behind the other as one in which their lists are joined,
so the file followed by that piece is a model with all layers; it is opened when an inner layer is first asked for.

The file is trusted: whoever opens it has checked its sha256 (a flipped bit loads silently).
"""

import base64
import json
import mmap
from collections.abc import Sequence
from pathlib import Path
from threading import Lock

import numpy as np
import onnxruntime as ort  # type: ignore[import-untyped]  # it ships no types
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as runtime  # type: ignore[import-untyped]  # as above

from models.config import Preprocessing
from models.variants import Variant

FORMAT_VERSION = 2  # of the ONNX file's inputs, outputs and metadata, and of model.json
READABLE_VERSIONS = (1, FORMAT_VERSION)  # 1 has h and z alone, and float32

# What ONNX Runtime raises where a model is no model, or doesn't run: kinds that have nothing in common but Exception.
REFUSALS = (
    runtime.EPFail,
    runtime.Fail,
    runtime.InvalidArgument,
    runtime.InvalidGraph,
    runtime.InvalidProtobuf,
    runtime.NoModel,
    runtime.NotImplemented,
    runtime.RuntimeException,
)

# The default cuDNN search times every algorithm anew for each batch size it meets, which takes seconds.
CUDA_OPTIONS = {"cudnn_conv_algo_search": "HEURISTIC"}


class Embedder:
    """Computes h or another layer of decoded images. Threads may share one.

    `num_threads` is ONNX Runtime's threads a call; 0 takes one a core. With `has_lanes` the weights are held twice, so
    that a call may ask for one thread, beside which others compute. The file may be deleted once it is open.
    Raises ValueError if ONNX Runtime can't open it, or it was exported in another format version.
    """

    def __init__(self, path: Path, *, num_threads: int, has_lanes: bool = False) -> None:
        try:
            session = _session(path, num_threads)
        except REFUSALS as error:  # its message tells of folders of the server
            raise ValueError(f"{path.name}: ONNX Runtime can't open it ({type(error).__name__})") from error
        metadata = session.get_modelmeta().custom_metadata_map
        if metadata.get("format_version") not in map(str, READABLE_VERSIONS):
            readable = " and ".join(map(str, READABLE_VERSIONS))
            raise ValueError(
                f"{path.name}: format version {metadata.get('format_version')}, this release reads {readable}"
            )
        self.preprocessing = Preprocessing.model_validate_json(metadata["preprocessing"])
        self.layers: dict[str, int] = json.loads(metadata["layers"])  # name -> D, first to last
        self.variant: Variant = json.loads(metadata.get("variant", '"float32"'))
        self.has_lanes = has_lanes
        self._served = {output.name for output in session.get_outputs()}
        self._inner_layers = base64.b64decode(json.loads(metadata.get("inner_layers", '""')))
        with path.open("rb") as file:
            self._file = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)  # outlives the file's name
        self._num_threads = num_threads
        self._sessions = {num_threads: session}  # by threads a call
        if has_lanes and num_threads != 1:
            self._sessions[1] = _session(path, 1)
        self._whole: dict[int, ort.InferenceSession] = {}  # those of all layers
        self._opening = Lock()

    def embed(self, images: NDArray[np.uint8], layer: str = "h", *, in_lane: bool = False) -> NDArray[np.float32]:
        """Images as `to_input` makes them, (M, S, S, 3) uint8, to a layer, (M, D) float32; `in_lane` on one thread.

        Raises ValueError for another dtype or shape, no image, or a layer that the model doesn't export.
        """
        return self.embed_layers(images, [layer], in_lane=in_lane)[layer]

    def embed_layers(
        self, images: NDArray[np.uint8], layers: Sequence[str], *, in_lane: bool = False
    ) -> dict[str, NDArray[np.float32]]:
        """Several layers in one pass, (M, D) each. Raises ValueError as `embed` does."""
        side = self.preprocessing.image_size
        if unknown := [layer for layer in layers if layer not in self.layers]:
            raise ValueError(f"layer: one of {', '.join(self.layers)}, not {', '.join(map(repr, unknown))}")
        if images.dtype != np.uint8:
            raise ValueError(f"images: uint8, not {images.dtype}")
        if images.shape[1:] != (side, side, 3) or not images.size:
            raise ValueError(f"images: (M, {side}, {side}, 3) with M at least 1, not {images.shape}")
        num_threads = 1 if in_lane else self._num_threads
        has_all = self._served.issuperset(layers)
        session = self._sessions[num_threads] if has_all else self._with_inner_layers(num_threads)
        return dict(zip(layers, session.run(list(layers), {"images": images}), strict=True))

    def _with_inner_layers(self, num_threads: int) -> ort.InferenceSession:
        with self._opening:
            if num_threads not in self._whole:
                self._whole[num_threads] = _session(b"".join((self._file, self._inner_layers)), num_threads)
            return self._whole[num_threads]


def _session(model: Path | bytes, num_threads: int) -> ort.InferenceSession:
    return ort.InferenceSession(model, _session_options(num_threads), providers=_providers())


def _session_options(num_threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = num_threads
    # A spinning thread holds its core while it waits: on a shared machine that cost up to half the throughput.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _providers() -> list[str | tuple[str, dict[str, str]]]:
    """The GPU where this build of ONNX Runtime has one, else the CPU."""
    return [("CUDAExecutionProvider", CUDA_OPTIONS), "CPUExecutionProvider"] if has_gpu() else ["CPUExecutionProvider"]


def has_gpu() -> bool:
    """Whether this build of ONNX Runtime computes on a GPU."""
    return "CUDAExecutionProvider" in ort.get_available_providers()
