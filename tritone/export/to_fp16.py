"""A stage's fp32 ONNX file to a mixed fp16 one in which every type is written down.

    x: float32 -> Cast -> [fp16 nodes, fp16 weights] -> Cast -> [a node of keep_fp32] -> Cast -> ... -> y: float32

Strongly typed compilers take such a file as it is, so what is compared on a CPU is what is compiled: no engine decides
for itself what is computed in which precision. Casts stand only where the type changes, one for each value and type.
The converter that comes with onnxruntime is not used: it makes one cast for each kept reader of a value, all of the
same name, rounds the weights of kept nodes, and clamps constants beyond the range without a word.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from tritone.errors import ArtifactError
from tritone.export.onnx_file import LARGEST_BYTES, like, load, save, values_of
from tritone.export.onnx_graph import BOOL, FLOAT, FLOAT16, captured, prepared, rename, replace, types
from tritone.export.to_onnx import check_file, scratch
from tritone.stage import Stage

TOOLS = ("onnx", "onnxruntime")
SUFFIX = {FLOAT: ".fp32", FLOAT16: ".fp16"}
LARGEST, SMALLEST = 65504.0, 2.0**-24
"""Of the numbers fp16 has."""
BLOCK = 1 << 24
"""Numbers that are looked at together: a weight may have hundreds of millions."""
MOVERS = frozenset(
    {"DepthToSpace", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Identity", "Reshape", "Slice"}
    | {"SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"}
)
"""Operators that only move values: they run in the type their data already has."""


def convert_stage(stage: Stage, source: Path, path: Path, largest: int = LARGEST_BYTES) -> None:
    """Write the mixed fp16 form of the fp32 file `source` to `path`; replaces the file in one step.

    The boundary keeps its dtypes. Nodes that match a pattern of `stage.keep_fp32` stay fp32 with their weights.

    Args:
        largest: bytes of a file, as of `export.to_onnx.export_stage`.

    Raises:
        ArtifactError: the source is missing or damaged, a pattern matches no node, a constant has no fp16 value and
            its node is not kept (the message names it), or the result is no valid ONNX of the declared boundary.
    """
    model = load(source)
    with scratch(path) as part:
        save(mixed(model, stage.keep_fp32, f"stage {stage.name}", part.parent), part, largest)
        check_file(stage, part, path)


def mixed(model: Any, keep: Iterable[str], what: str, folder: Path | None = None) -> Any:
    """Return the model in mixed fp16; nodes whose names match a pattern of `keep` stay fp32. `what` starts error
    messages.

    Args:
        folder: where the fp16 form of weights outside the graph is put; in memory if None.
    """
    model = prepared(model)
    names = [node.name for node in model.graph.node]
    keep = tuple(keep)
    lost = [pattern for pattern in keep if not any(fnmatchcase(name, pattern) for name in names)]
    if lost:
        raise ArtifactError(
            f"{what} keeps {', '.join(lost)} in fp32, which matches none of its {len(names)} nodes; "
            "find the delicate ones with python export/bisect_fp16.py"
        )
    problems = rewrite(model, {name for name in names if any(fnmatchcase(name, pattern) for pattern in keep)}, folder)
    if problems:
        raise ArtifactError(
            f"{what}: {'; '.join(problems.values())}; fp16 holds {SMALLEST:.1e} to {LARGEST:.0f}: "
            "add the names to the stage's keep_fp32"
        )
    return model


def rewrite(model: Any, kept: set[str], folder: Path | None = None) -> dict[str, str]:
    """Make a `prepared` model mixed, in place; returns the constants that have no fp16 value by their node's name."""
    rewriter = Rewriter(model, kept, folder)
    rewriter.run()
    return rewriter.problems


class Rewriter:
    """One walk over the nodes in order; each value exists in the types its readers ask for."""

    def __init__(self, model: Any, kept: set[str], folder: Path | None) -> None:
        graph = model.graph
        self.graph, self.kept, self.folder = graph, kept, folder
        self.opsets = {entry.domain: entry.version for entry in model.opset_import}
        self.weights = {tensor.name: tensor for tensor in graph.initializer}
        self.kinds = types(model)
        self.floats = {name for name, kind in self.kinds.items() if kind == FLOAT}
        self.outputs = {value.name for value in graph.output}
        # Value -> type -> its name in that type; and what a value was cast from when that was no float.
        self.forms: dict[str, dict[int, str]] = {v.name: {FLOAT: v.name} for v in graph.input if v.name in self.floats}
        self.forms |= {name: {FLOAT: name} for name in self.weights if name in self.floats}
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
        float_outputs = [name for name in node.output if name in self.floats]
        if node.op_type == "Cast" and float_outputs and node.input[0] not in self.floats:
            # Made when read, in the type the reader asks for: an integer is never rounded twice.
            self.origins[node.output[0]] = node
            self.forms[node.output[0]] = {}
            if node.output[0] in self.outputs:
                self.form(node.output[0], FLOAT, node)
            return
        kinds, outcome = self.settle(node)
        if node.op_type == "Cast" and float_outputs:
            next(a for a in node.attribute if a.name == "to").i = outcome[0]
        elif node.op_type == "ConstantOfShape" and float_outputs and outcome[0] == FLOAT16:
            self.half_fill(node)
        for index, name in enumerate(node.input):
            if name in self.floats:
                node.input[index] = self.form(name, kinds[index], node)
        inner = {name: self.form(name, FLOAT, node) for name in captured(node) if name in self.floats}
        rename(node, inner)
        self.nodes.append(node)
        for index, name in enumerate(node.output):
            if name not in self.floats:
                continue
            if outcome[index] == FLOAT16 and name in self.outputs:
                node.output[index] = name + SUFFIX[FLOAT16]
                self.forms[name] = {FLOAT16: node.output[index]}
                self.cast(node.output[index], FLOAT, name, name + ".cast")
                self.forms[name][FLOAT] = name
            else:
                self.forms[name] = {outcome[index]: name}

    def settle(self, node: Any) -> tuple[list[int], list[int]]:
        """Return the type of each float input and output of a node.

        Fp16 where the operator has it, unless it is kept.
        """
        from onnx import defs

        size = (len(node.input), len(node.output))
        fp32 = ([FLOAT] * size[0], [FLOAT] * size[1])
        try:
            schema = defs.get_schema(node.op_type, self.opsets.get(node.domain, 1), node.domain)
        except defs.SchemaError:
            return fp32
        float_inputs = [i for i, name in enumerate(node.input) if name in self.floats]
        only_reads = not any(name in self.floats for name in node.output) and len(float_inputs) == 1
        moves = node.op_type in MOVERS and node.input[0] not in self.weights
        if (only_reads or moves) and float_inputs and node.name not in self.kept:
            if self.at_hand(node.input[float_inputs[0]]) == FLOAT:
                return fp32
        elif node.name in self.kept or captured(node):
            return fp32
        halves = {c.type_param_str for c in schema.type_constraints if "tensor(float16)" in c.allowed_type_strs}
        makes = node.op_type in ("Cast", "ConstantOfShape")
        given = {formal(schema.inputs, i).type_str for i in range(size[0])}

        def kind(parameter: Any, output: bool) -> int:
            low = parameter.type_str in halves and (not output or makes or parameter.type_str in given)
            return FLOAT16 if low else FLOAT

        return (
            [kind(formal(schema.inputs, i), False) for i in range(size[0])],
            [kind(formal(schema.outputs, i), True) for i in range(size[1])],
        )

    def at_hand(self, name: str) -> int:
        """Return the type a float value was made in.

        Of one that was cast from no float, the type that holds it exactly.
        """
        if name in self.origins:
            return FLOAT16 if self.kinds.get(self.origins[name].input[0]) == BOOL else FLOAT
        return next(iter(self.forms[name]))

    def form(self, name: str, kind: int, reader: Any) -> str:
        """Return the name of a float value in the type asked for, made now if it does not exist yet."""
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
        """Add the fp16 copy of a weight; the fp32 one goes if nothing reads it."""
        weight = self.weights[name]
        self.weights[target] = like(weight, self.half(values_of(weight), reader), target, self.folder)

    def half_fill(self, node: Any) -> None:
        """Turn the value of a ConstantOfShape node to fp16."""
        from onnx import helper, numpy_helper

        given = next((numpy_helper.to_array(a.t) for a in node.attribute if a.name == "value"), np.zeros(1, "float32"))
        fill = numpy_helper.from_array(self.half(given, node))
        replace(node.attribute, [helper.make_attribute("value", fill)])

    def half(self, array: np.ndarray, reader: Any) -> np.ndarray:
        """Return the array in fp16; noted as a problem when a finite value overflows or everything in it vanishes."""
        parts = np.array_split(array.reshape(-1), 1 + array.size // BLOCK)
        peak = max(float(np.abs(part[np.isfinite(part)]).max(initial=0.0)) for part in parts)
        with np.errstate(over="ignore"):
            half = array.astype(np.float16)
        if peak > LARGEST or (peak > 0 and not np.any(half)):
            self.problems[reader.name] = f"node {reader.name} ({reader.op_type}) has the constant {peak:.3g}"
        return half


def formal(parameters: Any, index: int) -> Any:
    """Return the declared parameter at a position; the last one stands for all that follow."""
    return parameters[min(index, len(parameters) - 1)]
