"""Simulate fp16 storage in a mixed graph on a machine whose kernels compute in fp32.

onnxruntime has few fp16 kernels for CPUs. It computes the other nodes in fp32 and drops the casts it inserted between
two of them, so a value that overflows fp16 between two nodes passes unnoticed. Here every fp16 node becomes an fp32
node followed by an explicit cast to fp16 and back, which onnxruntime does not drop: values are rounded, overflow and
vanish as they do in memory. Not simulated: sums kept in fp16 inside a kernel (accelerators keep fp32 sums in the fp16
kernels they choose by default), and fused kernels that skip a rounding, which makes their results better.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tritone.engines.inputs import check_inputs, known_stage
from tritone.engines.onnx import check_signature, open_session, run_session
from tritone.export.fp16_rewriter import MOVERS
from tritone.export.onnx_file import like, load, save, values_of
from tritone.export.onnx_graph import FLOAT, FLOAT16, replace, types
from tritone.stage import Arrays, Call, Stage

EXACT = MOVERS | {"Concat", "Where", "Relu", "Max", "Min", "Neg", "Abs"}
"""Operators whose results are among their inputs, or their negatives: no rounding after them."""


def rounded(model: Any, folder: Path | None = None) -> Any:
    """Return a mixed model as fp32 nodes with each fp16 value rounded to fp16; values keep their names.

    Args:
        folder: where the fp32 form of weights outside the graph is written; in memory if None.
    """
    import onnx
    from onnx import shape_inference

    halves = {name for name, kind in types(shape_inference.infer_shapes(model)).items() if kind == FLOAT16}
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for tensor in result.graph.initializer:
        if tensor.data_type == FLOAT16:
            wide = values_of(tensor).astype("float32")
            tensor.CopyFrom(like(tensor, wide, tensor.name, folder))
    replace(result.graph.node, [part for node in result.graph.node for part in round_node(node, halves)])
    del result.graph.value_info[:]
    return result


def round_node(node: Any, halves: set[str]) -> list[Any]:
    """Return the nodes that replace one node of a mixed graph; `halves` are the values stored in fp16."""
    import onnx
    from onnx import helper, numpy_helper

    outputs = [name for name in node.output if name in halves]
    wide = onnx.NodeProto()
    wide.CopyFrom(node)
    for attribute in wide.attribute:
        if attribute.name == "to" and attribute.i == FLOAT16:
            attribute.i = FLOAT
        elif attribute.name == "value" and attribute.t.data_type == FLOAT16:
            attribute.t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(attribute.t).astype("float32")))
    if not outputs or node.op_type in EXACT:
        return [wide]
    replace(wide.output, [f"{name}.wide" if name in halves else name for name in node.output])
    parts = [wide]
    for name in outputs:
        parts.append(helper.make_node("Cast", [f"{name}.wide"], [f"{name}.half"], name=f"{name}.half", to=FLOAT16))
        parts.append(helper.make_node("Cast", [f"{name}.half"], [name], name=f"{name}.rounded", to=FLOAT))
    return parts


def rounded_session(path: Path, threads: int = 1) -> Any:
    """Return an onnxruntime session on the rounded form of a mixed file."""
    with tempfile.TemporaryDirectory(prefix="tritone-rounded-") as folder:
        part = Path(folder) / path.name
        save(rounded(load(path), part.parent), part)
        return open_session(part, threads)


def rounded_call(files: dict[str, Path], stages: Iterable[Stage], threads: int = 1) -> Call:
    """Return a Call on the rounded form of mixed fp16 files, each opened on first use; `files` are by stage name.

    Precision gates compare this form: running the files themselves on a CPU hides overflow.
    """
    by_name = {stage.name: stage for stage in stages}
    sessions: dict[str, Any] = {}

    def call(stage_name: str, **arrays: Any) -> Arrays:
        stage = known_stage(by_name, stage_name)
        check_inputs(stage, arrays)
        if stage_name not in sessions:
            opened = rounded_session(files[stage_name], threads)
            check_signature(stage, opened, files[stage_name])
            sessions[stage_name] = opened
        return run_session(sessions[stage_name], stage, arrays)

    return call
