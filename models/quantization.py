"""The int8 variant: convolutions and products in 8 bits, with ranges read off training images (static, QDQ).

Legend: M images, B of them a batch, S image side.

Weights are symmetric int8 with a scale a channel, activations uint8 with one a tensor. Ranges are the least and
greatest values seen. docs/decisions/0013 has what the alternatives measured.
"""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto
from onnxruntime.quantization import (  # type: ignore[import-untyped]  # it ships no types
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.quant_utils import add_pre_process_metadata  # type: ignore[import-untyped]

from models.onnx_graph import SERVED_LAYERS

FLOAT32_OPERATIONS = {"Div", "LayerNormalization"}
BATCH_SIZE = 16  # images whose every activation is in memory at once


class _Batches(CalibrationDataReader):  # type: ignore[misc]  # it has no type
    def __init__(self, images: NDArray[np.uint8]) -> None:
        self._batches: Iterator[NDArray[np.uint8]] = iter(
            images[start : start + BATCH_SIZE] for start in range(0, len(images), BATCH_SIZE)
        )

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        images = next(self._batches, None)
        return None if images is None else {"images": images}


def to_int8(model: ModelProto, images: NDArray[np.uint8]) -> ModelProto:
    """The graph of `graph_of` in 8 bits; `images`, (M, S, S, 3) uint8, are those that its activations are read off."""
    prepared = onnx.shape_inference.infer_shapes(model)
    add_pre_process_metadata(prepared)  # batch norm is folded and shapes are known; else a warning asks for both
    with TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        quantize_static(
            prepared,
            path,
            _Batches(images),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=_kept_in_float32(model),
            calibrate_method=CalibrationMethod.MinMax,
        )
        quantized = onnx.load(path)
    quantized.ClearField("metadata_props")  # what the tools left there
    return quantized


def _kept_in_float32(model: ModelProto) -> list[str]:
    """The division of pixels by 255, layer norms, and what pools the inner layers: these leave as they are computed."""
    inner = {output.name for output in model.graph.output} - set(SERVED_LAYERS)
    pooled = [node.name for node in model.graph.node if inner.intersection(node.output) and node.op_type != "Relu"]
    return [node.name for node in model.graph.node if node.op_type in FLOAT32_OPERATIONS] + pooled
