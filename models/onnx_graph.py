"""A network as an ONNX graph, and the part of such a graph that h and z need.

Legend: M images, S image side.
"""

from collections.abc import Sequence

import torch
from onnx import ModelProto
from torch import Tensor, nn

from models.simclr import SimCLR

OPSET = 20
SERVED_LAYERS = ("h", "z")


class Servable(nn.Module):
    """The network from pixels as they are decoded, so that no caller scales them or moves axes on its own."""

    def __init__(self, model: SimCLR) -> None:
        super().__init__()
        self.model = model
        # Without a head z is h, which has both names.
        self.layer_names = (*model.layer_names, *(() if "z" in model.layer_names else ("z",)))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(M, S, S, 3) uint8 -> each layer, (M, size) float32, in the order of `layer_names`."""
        x = images.permute(0, 3, 1, 2).to(torch.float32) / 255  # (M, 3, S, S)
        outputs = self.model.layers(x, self.model.layer_names)
        return tuple(outputs[name] if name in outputs else outputs["h"] for name in self.layer_names)


def graph_of(servable: Servable, image_size: int) -> ModelProto:
    """The network's graph, from `images` to all of its layers; batch norm is a part of the convolutions before it."""
    example = torch.zeros(2, image_size, image_size, 3, dtype=torch.uint8)  # of one image, torch would fix the batch
    program = torch.onnx.export(
        servable,
        (example,),
        dynamo=True,
        opset_version=OPSET,
        input_names=["images"],
        output_names=list(servable.layer_names),
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        verbose=False,
    )
    assert program is not None
    for node in program.model.graph:
        node.metadata_props.clear()  # the exporter's stack traces: paths of this machine
    graph: ModelProto = program.model_proto
    return graph


def split_inner_layers(model: ModelProto, served: Sequence[str] = SERVED_LAYERS) -> tuple[ModelProto, ModelProto]:
    """What the `served` layers need of a graph, and the rest.

    The rest is no model of its own: its bytes behind the first one's are the whole (models/embedder.py).
    """
    needed = set(served)
    for node in reversed(model.graph.node):  # in the order of computation
        if needed.intersection(node.output):
            needed.update(node.input)
    first, rest = ModelProto(), ModelProto()
    first.CopyFrom(model)
    for field in ("node", "output", "initializer", "value_info"):
        first.graph.ClearField(field)
    for node in model.graph.node:
        (first if needed.intersection(node.output) else rest).graph.node.append(node)
    for tensor in model.graph.initializer:
        (first if tensor.name in needed else rest).graph.initializer.append(tensor)
    for output in model.graph.output:
        (first if output.name in served else rest).graph.output.append(output)
    return first, rest
