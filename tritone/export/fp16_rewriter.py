"""The rewrite of an fp32 graph to mixed fp16: one walk over its nodes that settles the type of every value.

Each value exists in the types its readers need, with one Cast per value and type.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tritone.export.onnx_file import like, values_of
from tritone.export.onnx_graph import BOOL, FLOAT, FLOAT16, captured, rename, replace, types

SUFFIX = {FLOAT: ".fp32", FLOAT16: ".fp16"}
LARGEST, SMALLEST = 65504.0, 2.0**-24
"""The largest number fp16 holds, and the smallest above zero."""
BLOCK = 1 << 24
"""Numbers examined at a time: a weight may have hundreds of millions."""
MOVERS = frozenset(
    {"DepthToSpace", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Identity", "Reshape", "Slice"}
    | {"SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"}
)
"""Operators that only move values: they run in the type their data already has."""


class Rewriter:
    """Rewrites a `prepared` model in place; `problems` then holds the constants fp16 cannot hold, by node name."""

    def __init__(self, model: Any, kept: set[str], folder: Path | None) -> None:
        graph = model.graph
        self.graph, self.kept, self.folder = graph, kept, folder
        self.opsets = {entry.domain: entry.version for entry in model.opset_import}
        self.weights = {tensor.name: tensor for tensor in graph.initializer}
        self.kinds = types(model)
        self.floats = {name for name, kind in self.kinds.items() if kind == FLOAT}
        self.outputs = {value.name for value in graph.output}
        # Value -> type -> its name in that type.
        self.forms: dict[str, dict[int, str]] = {v.name: {FLOAT: v.name} for v in graph.input if v.name in self.floats}
        self.forms |= {name: {FLOAT: name} for name in self.weights if name in self.floats}
        # Value -> the cast that makes it from integers or booleans.
        self.origins: dict[str, Any] = {}
        self.nodes: list[Any] = []
        self.problems: dict[str, str] = {}

    def run(self) -> None:
        """Rewrite the graph in place."""
        for node in self.graph.node:
            self.visit(node)
        replace(self.graph.node, self.nodes)
        read = {name for node in self.nodes for name in (*node.input, *captured(node))} | self.outputs
        replace(self.graph.initializer, [tensor for tensor in self.weights.values() if tensor.name in read])
        # Types inferred for the fp32 graph no longer hold; readers infer their own.
        del self.graph.value_info[:]
        inputs = [value for value in self.graph.input if value.name not in self.weights]
        replace(self.graph.input, inputs)

    def visit(self, node: Any) -> None:
        """Append one node with its types settled, after the casts it needs."""
        if self.is_cast_to_float(node):
            self.defer(node)
            return
        inputs, outputs = self.settle(node)
        self.set_result_type(node, outputs)
        for index, name in enumerate(node.input):
            if name in self.floats:
                node.input[index] = self.form(name, inputs[index], node)
        inner = {name: self.form(name, FLOAT, node) for name in captured(node) if name in self.floats}
        rename(node, inner)
        self.nodes.append(node)
        for index, name in enumerate(node.output):
            if name in self.floats:
                self.add_output(node, index, outputs[index])

    def is_cast_to_float(self, node: Any) -> bool:
        """Return whether the node turns integers or booleans into floats."""
        return node.op_type == "Cast" and node.output[0] in self.floats and node.input[0] not in self.floats

    def defer(self, node: Any) -> None:
        """Note a cast to floats; it is made when read, in the reader's type, so that no integer is rounded twice."""
        self.origins[node.output[0]] = node
        self.forms[node.output[0]] = {}
        if node.output[0] in self.outputs:
            self.form(node.output[0], FLOAT, node)

    def set_result_type(self, node: Any, outputs: list[int]) -> None:
        """Write the settled type into a node whose attributes name the type of its result."""
        if not any(name in self.floats for name in node.output):
            return
        if node.op_type == "Cast":
            next(a for a in node.attribute if a.name == "to").i = outputs[0]
        elif node.op_type == "ConstantOfShape" and outputs[0] == FLOAT16:
            self.half_fill(node)

    def add_output(self, node: Any, index: int, kind: int) -> None:
        """Register a float output in its settled type; an output of the graph is cast back to fp32."""
        name = node.output[index]
        if kind == FLOAT16 and name in self.outputs:
            half = node.output[index] = name + SUFFIX[FLOAT16]
            self.cast(half, FLOAT, name, name + ".cast")
            self.forms[name] = {FLOAT16: half, FLOAT: name}
        else:
            self.forms[name] = {kind: name}

    def settle(self, node: Any) -> tuple[list[int], list[int]]:
        """Return the type of each float input and output of a node: fp16 where the operator has it, unless kept."""
        from onnx import defs

        fp32 = ([FLOAT] * len(node.input), [FLOAT] * len(node.output))
        try:
            schema = defs.get_schema(node.op_type, self.opsets.get(node.domain, 1), node.domain)
        except defs.SchemaError:
            return fp32
        return fp32 if self.stays_fp32(node) else fp16_types(schema, node)

    def stays_fp32(self, node: Any) -> bool:
        """Return whether the node is kept, has inner graphs, or only passes on or reads a value made in fp32."""
        kept = node.name in self.kept
        float_inputs = [name for name in node.input if name in self.floats]
        only_reads = len(float_inputs) == 1 and not any(name in self.floats for name in node.output)
        moves = node.op_type in MOVERS and node.input[0] not in self.weights
        if float_inputs and not kept and (only_reads or moves):
            return self.at_hand(float_inputs[0]) == FLOAT
        return kept or bool(captured(node))

    def at_hand(self, name: str) -> int:
        """Return the type a float value was made in; for a deferred cast, the type that holds it exactly."""
        if name in self.origins:
            return FLOAT16 if self.kinds.get(self.origins[name].input[0]) == BOOL else FLOAT
        return next(iter(self.forms[name]))

    def form(self, name: str, kind: int, reader: Any) -> str:
        """Return the name of a float value in a type, appending the cast that makes it unless it exists."""
        forms = self.forms[name]
        if kind in forms:
            return forms[kind]
        target = name + SUFFIX[kind] if forms else name
        if name in self.origins:
            origin = self.origins[name]
            self.cast(origin.input[0], kind, target, origin.name + (SUFFIX[kind] if forms else ""))
        elif name in self.weights:
            self.half_weight(name, target, reader)
        else:
            self.cast(next(iter(forms.values())), kind, target, f"{target}.cast")
        forms[kind] = target
        return target

    def cast(self, value: str, kind: int, target: str, name: str) -> None:
        """Append a Cast node."""
        from onnx import helper

        self.nodes.append(helper.make_node("Cast", [value], [target], name=name, to=kind))

    def half_weight(self, name: str, target: str, reader: Any) -> None:
        """Add the fp16 copy of a weight; the fp32 one is dropped if nothing reads it."""
        weight = self.weights[name]
        self.weights[target] = like(weight, self.half(values_of(weight), reader), target, self.folder)

    def half_fill(self, node: Any) -> None:
        """Convert the value of a ConstantOfShape node to fp16."""
        from onnx import helper, numpy_helper

        given = next((numpy_helper.to_array(a.t) for a in node.attribute if a.name == "value"), np.zeros(1, "float32"))
        fill = numpy_helper.from_array(self.half(given, node))
        replace(node.attribute, [helper.make_attribute("value", fill)])

    def half(self, array: np.ndarray, reader: Any) -> np.ndarray:
        """Return the array in fp16; record a problem when a finite value overflows or all of them vanish."""
        parts = np.array_split(array.reshape(-1), 1 + array.size // BLOCK)
        peak = max(float(np.abs(part[np.isfinite(part)]).max(initial=0.0)) for part in parts)
        with np.errstate(over="ignore"):
            half = array.astype(np.float16)
        if peak > LARGEST or (peak > 0 and not np.any(half)):
            self.problems[reader.name] = f"node {reader.name} ({reader.op_type}) has the constant {peak:.3g}"
        return half


def fp16_types(schema: Any, node: Any) -> tuple[list[int], list[int]]:
    """Return the type of each input and output of a node that runs in fp16 as far as its operator allows.

    An output is fp16 when its type is that of an fp16 input, or when the node makes it from no float.
    """
    halves = {c.type_param_str for c in schema.type_constraints if "tensor(float16)" in c.allowed_type_strs}
    inputs = [formal(schema.inputs, index).type_str for index in range(len(node.input))]
    outputs = [formal(schema.outputs, index).type_str for index in range(len(node.output))]
    makes = node.op_type in ("Cast", "ConstantOfShape")
    return (
        [FLOAT16 if kind in halves else FLOAT for kind in inputs],
        [FLOAT16 if kind in halves and (makes or kind in inputs) else FLOAT for kind in outputs],
    )


def formal(parameters: Any, index: int) -> Any:
    """Return the declared parameter at a position; the last one stands for all that follow."""
    return parameters[min(index, len(parameters) - 1)]
