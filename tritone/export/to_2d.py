"""Turn convolutions over time `[batch, channels, time]` into 2-D convolutions over pictures one row high.

    x [b, c, t] -> Unsqueeze -> [Conv 1 x k -> LeakyRelu -> Conv 1 x k -> Add ...] -> Squeeze -> y [b, c, t]

The numbers are the same. onnxruntime's fastest convolutions, with channels in blocks as wide as a vector register,
exist for pictures alone: the narrow, long convolutions at the end of a vocoder take up to 1.6 times less. Elementwise
nodes between two convolutions also become 2-D, so that values are not squeezed and unsqueezed in between.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from tritone.export.onnx_file import values_of
from tritone.export.onnx_graph import captured, replace

ELEMENTWISE = frozenset(
    {"Abs", "Add", "Cast", "Clip", "Cos", "Div", "Elu", "Erf", "Exp", "Gelu", "LeakyRelu", "Log", "Max", "Min", "Mul"}
    | {"Neg", "Pow", "Reciprocal", "Relu", "Sigmoid", "Sin", "Softplus", "Sqrt", "Sub", "Sum", "Tanh"}
)
CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
HEIGHT = "one_row_axis"
"""Name of the constant that holds the axis inserted before time."""


def to_2d(model: Any) -> Any:
    """Make every convolution over time of the model two-dimensional, in place, and return the model.

    Nodes keep their names; added nodes are named after the value they reshape. Subgraphs are left as they are.
    """
    from onnx import numpy_helper, shape_inference

    graph = shape_inference.infer_shapes(model).graph
    rank = {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in (*graph.input, *graph.value_info, *graph.output)
        if value.type.tensor_type.HasField("shape")
    }
    writer = _Writer(model.graph, rank)
    for node in model.graph.node:
        data = node.input[0] if node.input else ""
        if node.op_type in CONVOLUTIONS and rank.get(data) == 3:
            writer.convolution(node)
        elif node.op_type in ELEMENTWISE and any(name in writer.pictures for name in node.input):
            writer.elementwise(node)
        else:
            writer.plain(node)
    writer.rows(value.name for value in model.graph.output)
    if writer.pictures:
        writer.constants[HEIGHT] = np.array([2], np.int64)
    replace(model.graph.node, writer.nodes)
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in writer.constants.items())
    _drop_unused(model.graph)
    replace(model.graph.value_info, [])
    return model


class _Writer:
    """The nodes written so far, and the values that exist as pictures `[batch, channels, 1, time]`."""

    def __init__(self, graph: Any, rank: dict[str, int]) -> None:
        self.nodes: list[Any] = []
        self.pictures: dict[str, str] = {}
        """Value -> name of its picture."""
        self.constants: dict[str, np.ndarray] = {}
        self._rank = rank
        self._given = {tensor.name: tensor for tensor in graph.initializer}
        self._present = {value.name for value in graph.input} | set(self._given)
        """Values that exist in their own shape."""

    def convolution(self, node: Any) -> None:
        """Write the convolution as one over pictures."""
        inputs = [self._picture(node.input[0]), self._operand(node.input[1]), *node.input[2:]]
        for attribute in node.attribute:
            if attribute.name in ("kernel_shape", "strides", "dilations"):
                replace(attribute.ints, [1, *attribute.ints])
            elif attribute.name == "output_padding":
                replace(attribute.ints, [0, *attribute.ints])
            elif attribute.name == "pads":
                begin, end = attribute.ints
                replace(attribute.ints, [0, begin, 0, end])
        self._write_picture(node, inputs)

    def elementwise(self, node: Any) -> None:
        """Write the node over pictures if every input can be one, else unchanged."""
        if all(self._fits(name) for name in node.input):
            self._write_picture(node, [self._operand(name) for name in node.input])
        else:
            self.plain(node)

    def plain(self, node: Any) -> None:
        """Write the node unchanged."""
        self.rows([*node.input, *captured(node)])
        self.nodes.append(node)
        self._present.update(node.output)

    def rows(self, names: Iterable[str]) -> None:
        """Squeeze the values that so far exist only as pictures."""
        for name in names:
            if name in self.pictures and name not in self._present:
                self._add("Squeeze", self.pictures[name], name)
                self._present.add(name)

    def _write_picture(self, node: Any, inputs: list[str]) -> None:
        name = node.output[0]
        self.pictures[name] = f"{name}_picture"
        replace(node.input, inputs)
        replace(node.output, [self.pictures[name]])
        self.nodes.append(node)

    def _picture(self, name: str) -> str:
        if name not in self.pictures:
            self.pictures[name] = f"{name}_picture"
            self._add("Unsqueeze", name, self.pictures[name])
        return self.pictures[name]

    def _fits(self, name: str) -> bool:
        if name in self._given:
            return len(self._given[name].dims) <= 3
        return name in self.pictures or self._rank.get(name) == 3

    def _operand(self, name: str) -> str:
        """Return an input of a node over pictures: rank 3 as a picture; constants of fewer axes broadcast as before."""
        if name not in self._given:
            return self._picture(name)
        if len(self._given[name].dims) < 2:  # one number, or one for each time step
            return name
        picture = f"{name}_picture"
        self.constants[picture] = np.expand_dims(values_of(self._given[name]), -2)
        return picture

    def _add(self, kind: str, source: str, result: str) -> None:
        from onnx import helper

        self.nodes.append(helper.make_node(kind, [source, HEIGHT], [result], name=f"{result}/{kind}"))


def _drop_unused(graph: Any) -> None:
    """Remove the initializers that no node reads."""
    read = {name for node in graph.node for name in (*node.input, *captured(node))}
    read |= {value.name for value in graph.output}
    replace(graph.initializer, [tensor for tensor in graph.initializer if tensor.name in read])
