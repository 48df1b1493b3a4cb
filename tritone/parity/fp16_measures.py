"""The error of every node of a mixed fp16 graph, from running it and the fp32 graph node by node, side by side.

Each node runs three times: on the values of the fp32 graph, on those of the mixed one, and in fp16 on the fp32 graph's
values, which gives its own error. A value is dropped after its last reader, so memory stays near that of a plain run.

fp16 is simulated: a node computes in fp32, and its fp16 inputs and outputs are rounded. Overflow, underflow and
rounding in memory show; sums kept in fp16 inside a kernel, and fused kernels that skip a rounding, do not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tritone.errors import ArtifactError
from tritone.export.fp16_rewriter import MOVERS, SUFFIX
from tritone.export.onnx_file import values_of
from tritone.export.onnx_graph import FLOAT16, captured, types
from tritone.stage import Stage

BIG = 1e37
"""Mask values beyond it count as infinite: they are left out of peaks and differences."""
IR_VERSION = 8
Feed = dict[str, np.ndarray]


@dataclass(frozen=True)
class Measure:
    """One node's output in fp16 against fp32; errors are relative to the fp32 tensor's peak, infinite where not finite.

    Args:
        error: with everything before it in mixed fp16 as well.
        own: of this node alone, from the fp32 graph's inputs rounded to the types it takes.
    """

    name: str
    op: str
    output: str
    peak: float
    error: float
    own: float


@dataclass(frozen=True)
class Pair:
    """A node of the fp32 graph with the types of its twin in the mixed graph.

    Args:
        reads: the values it reads, those read by its inner graphs last.
        low: for each of them, whether the twin reads it as fp16.
        gives: for each output, whether the twin gives it as fp16.
        drops: the values no later node reads.
    """

    node: Any
    reads: Sequence[str]
    low: Sequence[bool]
    gives: Sequence[bool]
    drops: Sequence[str]


def measures(stage: Stage, fp32: Any, mixed: Any, inputs: Mapping[str, np.ndarray]) -> Iterator[Measure]:
    """Yield the outputs of every node of the `prepared` fp32 model that computes floats, in order.

    Nodes that only move values are left out.

    Raises:
        ArtifactError: the mixed model was not made from the fp32 one.
    """
    weights = {tensor.name: values_of(tensor) for tensor in fp32.graph.initializer}
    declared = [value.name for value in fp32.graph.input if value.name not in weights]
    given = {name: inputs[tensor.name] for name, tensor in zip(declared, stage.inputs, strict=True)}
    runs = Runs({**weights, **given}, list(fp32.opset_import))
    for pair in pairs(stage, fp32, mixed):
        yield from runs.advance(pair)


def pairs(stage: Stage, fp32: Any, mixed: Any) -> Iterator[Pair]:
    """Yield the nodes of the fp32 model in order, each with the types of its twin."""
    from onnx import shape_inference

    mixed = shape_inference.infer_shapes(mixed)
    twins = {base(node.name): node for node in mixed.graph.node}
    kinds = types(mixed)
    last = last_readers(fp32)
    for index, node in enumerate(fp32.graph.node):
        # A cast from integers exists in the mixed graph only in the types its readers need.
        twin = twins.get(node.name, node if node.op_type == "Cast" else None)
        if twin is None or len(twin.input) != len(node.input):
            raise ArtifactError(f"stage {stage.name}: node {node.name} is not in the fp16 graph; build it again")
        inner = sorted(captured(node) - set(node.input))
        low = [kinds.get(name) == FLOAT16 for name in twin.input] + [False] * len(inner)
        gives = [kinds.get(name) == FLOAT16 for name in twin.output if name]
        reads = [*node.input, *inner]
        drops = [name for name in {*reads, *node.output} if last.get(name, -1) <= index]
        yield Pair(node, reads, low, gives, drops)


class Runs:
    """The values of the fp32 graph and of the mixed graph up to the same node."""

    def __init__(self, values: Mapping[str, np.ndarray], opsets: list[Any]) -> None:
        self.exact, self.half = dict(values), dict(values)
        self._opsets = opsets

    def advance(self, pair: Pair) -> Iterator[Measure]:
        """Run the next node in both graphs; yield its measures unless it only moves values."""
        node = pair.node
        names = [name for name in node.output if name]
        # A cast from integers is exact here and rounded where it is read.
        exact_cast = node.op_type == "Cast" and not is_float(self.exact[node.input[0]])
        gives = [low and not exact_cast for low in pair.gives]
        plain = fed(pair.reads, self.exact, [False] * len(pair.reads))
        run = once(single(node, plain, self._opsets))
        right, other = run(plain), run(fed(pair.reads, self.half, pair.low))
        halves = rounded_outputs(other, gives)
        if node.op_type not in MOVERS and (other is not right or any(gives)):
            alone = rounded_outputs(run(fed(pair.reads, self.exact, pair.low)), gives)
            for name, value, half, own in zip(names, right, halves, alone, strict=True):
                if is_float(value):
                    yield measured(node, name, value, half, own)
        self.exact.update(zip(names, right, strict=True))
        self.half.update(zip(names, halves, strict=True))
        for name in pair.drops:
            self.exact.pop(name, None)
            self.half.pop(name, None)


def measured(node: Any, output: str, right: np.ndarray, half: np.ndarray, own: np.ndarray) -> Measure:
    """Return the errors of one output."""
    if half.shape != right.shape or own.shape != right.shape:
        return Measure(node.name, node.op_type, output, 0.0, float("inf"), float("inf"))
    real = np.abs(right) < BIG
    peak = float(np.abs(right[real]).max(initial=0.0))

    def error(other: np.ndarray) -> float:
        with np.errstate(all="ignore"):
            difference = float(np.abs(other[real] - right[real]).max(initial=0.0))
        if not np.isfinite(difference):
            return float("inf")
        return difference / peak if peak > 0 else (0.0 if difference == 0 else float("inf"))

    return Measure(node.name, node.op_type, output, peak, error(half), error(own))


def fed(names: Sequence[str], values: Mapping[str, np.ndarray], low: Sequence[bool]) -> Feed:
    """Return the inputs of a node, rounded where `low`; an array that rounding does not change is the same object."""
    return {
        name: as_half(values[name]) if is_low else values[name]
        for name, is_low in zip(names, low, strict=True)
        if name in values
    }


def as_half(array: np.ndarray) -> np.ndarray:
    """Return the float32 array as fp16 holds it; the same object when that changes nothing."""
    with np.errstate(all="ignore"):
        result = array.astype(np.float16).astype(np.float32)
    return array if np.array_equal(result, array) else result


def rounded_outputs(values: list[np.ndarray], gives: Sequence[bool]) -> list[np.ndarray]:
    """Return a node's outputs, those it gives as fp16 rounded."""
    return [as_half(value) if low else value for value, low in zip(values, gives, strict=True)]


def is_float(array: np.ndarray) -> bool:
    """Return whether the array holds float32."""
    return array.dtype == np.float32


def base(name: str) -> str:
    """Return the fp32 graph's name of a node of the mixed graph."""
    for suffix in SUFFIX.values():
        name = name.removesuffix(suffix)
    return name


def last_readers(model: Any) -> dict[str, int]:
    """Return for each value the index of the last node that reads it."""
    return {
        name: index for index, node in enumerate(model.graph.node) for name in (*node.input, *captured(node)) if name
    }


def once(run: Callable[[Feed], list[np.ndarray]]) -> Callable[[Feed], list[np.ndarray]]:
    """Return the function with its results kept: the very same arrays give the very same results."""
    kept: list[tuple[Feed, list[np.ndarray]]] = []

    def results(feed: Feed) -> list[np.ndarray]:
        for earlier, values in kept:
            if all(earlier[name] is array for name, array in feed.items()):
                return values
        kept.append((feed, run(feed)))
        return kept[-1][1]

    return results


def single(node: Any, values: Mapping[str, np.ndarray], opsets: list[Any]) -> Callable[[Feed], list[np.ndarray]]:
    """Return a function that runs one node in fp32: arrays by name to the list of its outputs."""
    import onnxruntime
    from onnx import helper

    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), None)
        for name, array in values.items()
    ]
    outputs = [helper.make_empty_tensor_value_info(name) for name in node.output if name]
    graph = helper.make_graph([node], "node", inputs, outputs)
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda feed: list(session.run(None, dict(feed)))
