"""The float16 variant: weights and arithmetic in half precision, float32 outputs. For GPUs: a CPU gains nothing."""

from itertools import chain

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnxruntime.transformers.float16 import convert_float_to_float16  # type: ignore[import-untyped]  # it ships no types


def to_float16(model: ModelProto) -> ModelProto:
    """The graph of `graph_of` in half precision."""
    copy = ModelProto()
    copy.CopyFrom(model)  # it is converted in place
    half: ModelProto = convert_float_to_float16(onnx.shape_inference.infer_shapes(copy), keep_io_types=True)
    return half


def rounded_to_float16(model: ModelProto) -> ModelProto:
    """The graph in float32 with every weight and every result rounded to half precision: what a GPU computes, on a CPU.

    ONNX Runtime's CPU kernels hold what lies between the operations of a float16 graph in float32, so that nothing
    overflows where a GPU's numbers would.
    """
    copy = onnx.shape_inference.infer_shapes(model)
    graph = copy.graph
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            with np.errstate(over="ignore"):
                half = numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(half.astype(np.float32), tensor.name))
    values = chain(graph.value_info, graph.output)
    floats = {value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    nodes = [part for node in graph.node for part in (_rounded(node, floats))]
    graph.ClearField("node")
    graph.node.extend(nodes)
    return copy


def _rounded(node: onnx.NodeProto, floats: set[str]) -> list[onnx.NodeProto]:
    """The node, and behind it its float32 result's way to half precision and back."""
    [output] = node.output
    if output not in floats:
        return [node]
    node.output[0] = f"{output}_exact"
    return [
        node,
        helper.make_node("Cast", [f"{output}_exact"], [f"{output}_half"], to=TensorProto.FLOAT16),
        helper.make_node("Cast", [f"{output}_half"], [output], to=TensorProto.FLOAT),
    ]
