"""Where a mixed fp16 graph goes wrong: both graphs node by node, side by side.

Each node runs three times, on the values of the fp32 graph, on those of the mixed one, and alone: in fp16, but on the
fp32 graph's values. That tells a node that introduces an error from those that pass it on. A value is dropped after
its last reader, so memory stays near that of a plain run.

fp16 is simulated: a node computes in fp32 and what it reads and gives as fp16 is rounded. Overflow, underflow and
rounding in memory show; sums kept in fp16 inside a kernel, and fused kernels that skip a rounding, do not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tritone.errors import ArtifactError
from tritone.export.onnx_file import load, values_of
from tritone.export.onnx_graph import FLOAT16, ancestors, captured, prepared, types
from tritone.export.to_fp16 import MOVERS, SUFFIX
from tritone.stage import Stage

BIG = 1e37
"""Mask values beyond it count as infinite: they are left out of peaks and differences."""
IR_VERSION = 8


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
class BadNode:
    """The first node, in the order of computation, that leaves tolerance or is not finite.

    Args:
        error: largest difference from the fp32 tensor over that tensor's peak; infinite when not `finite`.
        own: the part of it the node makes by itself from exact inputs.
        introduced_by: of this node and those before it, the one with the largest error of its own.
    """

    name: str
    op: str
    output: str
    error: float
    own: float
    finite: bool
    peak: float
    introduced_by: str

    def __str__(self) -> str:
        what = f"is {self.error:.1e} of its peak {self.peak:.3g} off" if self.finite else "is not finite"
        where = "" if self.introduced_by == self.name else f", introduced by {self.introduced_by}"
        return f"{self.name} ({self.op}): its output {self.output} {what} in fp16{where}"


def first_bad_node(
    stage: Stage, fp32_path: Path, fp16_path: Path, inputs: Mapping[str, np.ndarray], tolerance: float
) -> BadNode | None:
    """Return the first node whose fp16 value is not finite or further than `tolerance` of the peak from the fp32 value.

    None when there is no such node; the stage's outputs may then still differ, by many small errors.

    Args:
        inputs: by the stage's names, `[batch, ...]` as the stage declares them.
    """
    return first_bad(stage, prepared(load(fp32_path)), load(fp16_path), inputs, tolerance)


def first_bad(
    stage: Stage,
    fp32: Any,
    mixed: Any,
    inputs: Mapping[str, np.ndarray],
    tolerance: float,
    outputs: float | None = None,
) -> BadNode | None:
    """`first_bad_node` of models already loaded; `outputs` is another tolerance for the outputs of the graph."""
    last = {value.name for value in fp32.graph.output}
    own: dict[str, float] = {}
    for measure in measures(stage, fp32, mixed, inputs):
        own[measure.name] = max(measure.own, own.get(measure.name, 0.0))
        if not measure.error <= (outputs if outputs is not None and measure.output in last else tolerance):
            before = [name for name in own if name in ancestors(fp32, measure.name)]
            introduced = max([measure.name, *reversed(before)], key=lambda name: own[name])
            return BadNode(
                measure.name, measure.op, measure.output, measure.error, measure.own,
                bool(np.isfinite(measure.error)), measure.peak, introduced,
            )  # fmt: skip
    return None


def measures(stage: Stage, fp32: Any, mixed: Any, inputs: Mapping[str, np.ndarray]) -> Iterator[Measure]:
    """Yield every node of the `prepared` fp32 model that computes floats, in order; those that only move are left out.

    Raises:
        ArtifactError: the mixed model was not made from the fp32 one.
    """
    from onnx import shape_inference

    mixed = shape_inference.infer_shapes(mixed)
    twins = {base(node.name): node for node in mixed.graph.node}
    kinds = types(mixed)
    exact = {tensor.name: values_of(tensor) for tensor in fp32.graph.initializer}
    declared = [value.name for value in fp32.graph.input if value.name not in exact]
    exact |= {name: inputs[tensor.name] for name, tensor in zip(declared, stage.inputs, strict=True)}
    half = dict(exact)
    last = last_readers(fp32)
    opsets = list(fp32.opset_import)
    for index, node in enumerate(fp32.graph.node):
        twin = twins.get(node.name, node if node.op_type == "Cast" else None)
        if twin is None or len(twin.input) != len(node.input):
            raise ArtifactError(f"stage {stage.name}: node {node.name} is not in the fp16 graph; build it again")
        reads = [*node.input, *sorted(captured(node) - set(node.input))]
        low = [kinds.get(name) == FLOAT16 for name in twin.input] + [False] * (len(reads) - len(node.input))
        # A cast from integers exists once for each type its readers ask for, so it is exact here and rounded there.
        lazy = node.op_type == "Cast" and not is_float(exact[node.input[0]])
        gives = [kinds.get(name) == FLOAT16 and not lazy for name in twin.output if name]
        plain = fed(reads, exact, [False] * len(reads))
        feed, feed_alone = fed(reads, half, low), fed(reads, exact, low)
        run = single(node, plain, opsets)
        results = run(plain)
        raw = results if same(feed, plain) else run(feed)
        halves = rounded_outputs(raw, gives)
        names = [name for name in node.output if name]
        if node.op_type not in MOVERS and not (raw is results and not any(gives)):
            raw = results if same(feed_alone, plain) else raw if same(feed_alone, feed) else run(feed_alone)
            for name, right, found, own in zip(names, results, halves, rounded_outputs(raw, gives), strict=True):
                if is_float(right):
                    yield measured(node, name, right, found, own)
        for name, right, found in zip(names, results, halves, strict=True):
            exact[name], half[name] = right, found
        for name in {*reads, *node.output}:
            if last.get(name, -1) <= index:
                exact.pop(name, None)
                half.pop(name, None)


def measured(node: Any, output: str, right: np.ndarray, found: np.ndarray, own: np.ndarray) -> Measure:
    """Return the errors of one output."""
    if found.shape != right.shape or own.shape != right.shape:
        return Measure(node.name, node.op_type, output, 0.0, float("inf"), float("inf"))
    real = np.abs(right) < BIG
    peak = float(np.abs(right[real]).max(initial=0.0))

    def error(other: np.ndarray) -> float:
        with np.errstate(all="ignore"):
            difference = float(np.abs(other[real] - right[real]).max(initial=0.0))
        if not np.isfinite(difference):
            return float("inf")
        return difference / peak if peak > 0 else (0.0 if difference == 0 else float("inf"))

    return Measure(node.name, node.op_type, output, peak, error(found), error(own))


def fed(names: list[str], values: Mapping[str, np.ndarray], low: list[bool]) -> dict[str, np.ndarray]:
    """What a node reads, rounded where it reads fp16; an array that needs no rounding is passed on itself."""
    feed: dict[str, np.ndarray] = {}
    for name, is_low in zip(names, low, strict=True):
        if name in values:
            feed[name] = as_half(values[name]) if is_low else values[name]
    return feed


def as_half(array: np.ndarray) -> np.ndarray:
    """Return the float32 array as fp16 holds it; the same object when that changes nothing."""
    with np.errstate(all="ignore"):
        result = array.astype(np.float16).astype(np.float32)
    return array if np.array_equal(result, array) else result


def rounded_outputs(values: list[np.ndarray], gives: list[bool]) -> list[np.ndarray]:
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


def half_nodes(mixed: Any) -> set[str]:
    """Return the nodes of a mixed model that compute in fp16, without those that only move or cast."""
    from onnx import shape_inference

    kinds = types(shape_inference.infer_shapes(mixed))
    return {
        base(node.name)
        for node in mixed.graph.node
        if node.op_type not in MOVERS and node.op_type != "Cast" and any(kinds.get(n) == FLOAT16 for n in node.output)
    }


def last_readers(model: Any) -> dict[str, int]:
    """Value -> index of the last node that reads it."""
    return {
        name: index for index, node in enumerate(model.graph.node) for name in (*node.input, *captured(node)) if name
    }


def same(feed: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> bool:
    """Return whether both hold the very same arrays."""
    return all(other[name] is array for name, array in feed.items())


def single(node: Any, values: Mapping[str, np.ndarray], opsets: list[Any]) -> Any:
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
    return lambda feed: session.run(None, dict(feed))
