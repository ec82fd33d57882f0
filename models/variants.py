"""The variants in which a model is published: the same network in other arithmetic, each an ONNX file of its own.

Nothing here imports torch: the API serves them.
"""

from collections.abc import Mapping
from typing import Literal, get_args

Variant = Literal["float32", "float16", "int8"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)

FILES: Mapping[Variant, str] = {
    "float32": "model.onnx",
    "float16": "model-float16.onnx",
    "int8": "model-int8.onnx",
}

# Least cosine, over held-out images, of a variant's h to the trained network's; of float32, of every layer.
FLOORS: dict[Variant, float] = {"float32": 0.999, "float16": 0.995, "int8": 0.99}
