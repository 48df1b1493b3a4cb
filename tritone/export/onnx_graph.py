"""Small operations on ONNX graphs that exporters and the fp16 tools share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

FLOAT, BOOL, FLOAT16 = 1, 9, 10
"""ONNX element types."""


def prepared(model: Any) -> Any:
    """Return the model without local functions and Constant nodes, with every node named and every type inferred."""
    import onnx
    from onnx import helper, inliner, numpy_helper, shape_inference

    if model.functions:
        model = inliner.inline_local_functions(model)
    graph, nodes, used = model.graph, [], set()
    for node in graph.node:
        if node.op_type == "Constant":
            value = helper.get_attribute_value(node.attribute[0])
            array = numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else constant(value)
            graph.initializer.append(numpy_helper.from_array(array, node.output[0]))
            continue
        if not node.name or node.name in used:
            node.name = f"{node.op_type}:{node.output[0]}"
        used.add(node.name)
        nodes.append(node)
    replace(graph.node, nodes)
    return shape_inference.infer_shapes(model)


def constant(value: Any) -> np.ndarray:
    """Return the number or numbers of a Constant node as an array."""
    array = np.asarray(value)
    return array.astype(np.int64 if np.issubdtype(array.dtype, np.integer) else np.float32)


def subgraphs(node: Any) -> Iterator[Any]:
    """Yield the graphs inside a node (the branches of an If, the body of a Loop), outermost first."""
    for attribute in node.attribute:
        for graph in [attribute.g] if attribute.HasField("g") else [*attribute.graphs]:
            yield graph
            for inner in graph.node:
                yield from subgraphs(inner)


def captured(node: Any) -> set[str]:
    """Return the names read inside the node's graphs, including names of the outer graph."""
    return {name for graph in subgraphs(node) for inner in graph.node for name in inner.input} | {
        value.name for graph in subgraphs(node) for value in graph.output
    }


def rename(node: Any, names: dict[str, str]) -> None:
    """Rename values of the outer graph inside the node's graphs."""
    for graph in subgraphs(node):
        for inner in graph.node:
            replace(inner.input, [names.get(name, name) for name in inner.input])


def replace(field: Any, values: Iterable[Any]) -> None:
    """Set the whole content of a repeated protobuf field."""
    values = list(values)
    del field[:]
    field.extend(values)


def types(model: Any) -> dict[str, int]:
    """Return the element type of every value whose type is declared or inferred."""
    graph = model.graph
    kinds = {v.name: v.type.tensor_type.elem_type for v in (*graph.input, *graph.value_info, *graph.output)}
    return kinds | {tensor.name: tensor.data_type for tensor in graph.initializer}


def ancestors(fp32: Any, name: str) -> set[str]:
    """Return the nodes of a `prepared` model that the node's float inputs depend on."""
    floats, reached = float_inputs(fp32), {name}
    pending = [name]
    while pending:
        fresh = [node for node in floats[pending.pop()] if node not in reached]
        reached.update(fresh)
        pending += fresh
    return reached - {name}


def float_inputs(fp32: Any) -> dict[str, list[str]]:
    """Return for each node of a `prepared` model the nodes that make the floats it reads."""
    kinds = types(fp32)
    maker = {value: node.name for node in fp32.graph.node for value in node.output if kinds.get(value) == FLOAT}
    return {node.name: [maker[v] for v in node.input if v in maker] for node in fp32.graph.node}
