"""Find the node where a mixed fp16 graph goes wrong, by running it beside the fp32 graph node by node.

A node's own error, from the fp32 graph's values, tells a node that introduces an error from those that pass it on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tritone.export.fp16_rewriter import MOVERS
from tritone.export.onnx_file import load
from tritone.export.onnx_graph import FLOAT16, ancestors, prepared, types
from tritone.parity.fp16_measures import Measure, base, measures
from tritone.stage import Stage


@dataclass(frozen=True)
class BadNode:
    """The first node, in the order of computation, that leaves tolerance or is not finite.

    Args:
        error: largest difference from the fp32 tensor over that tensor's peak; infinite when not `finite`.
        own: the part of it the node makes from exact inputs.
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
        what = f"differs by {self.error:.1e} of its peak {self.peak:.3g}" if self.finite else "is not finite"
        where = "" if self.introduced_by == self.name else f", introduced by {self.introduced_by}"
        return f"{self.name} ({self.op}): its output {self.output} {what} in fp16{where}"


def first_bad_node(
    stage: Stage, fp32_path: Path, fp16_path: Path, inputs: Mapping[str, np.ndarray], tolerance: float
) -> BadNode | None:
    """Return the first node whose fp16 value is not finite or further than `tolerance` of the peak from the fp32 value.

    None when no node is; the stage's outputs may then still differ, by many small errors.

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
    """Return `first_bad_node` of models already loaded; `outputs` is another tolerance for the graph's outputs."""
    last = {value.name for value in fp32.graph.output}
    own: dict[str, float] = {}
    for measure in measures(stage, fp32, mixed, inputs):
        own[measure.name] = max(measure.own, own.get(measure.name, 0.0))
        limit = outputs if outputs is not None and measure.output in last else tolerance
        if not measure.error <= limit:
            return bad_node(measure, fp32, own)
    return None


def bad_node(measure: Measure, fp32: Any, own: Mapping[str, float]) -> BadNode:
    """Return the node of a measure out of tolerance, and which node introduced most of the error."""
    before = [name for name in own if name in ancestors(fp32, measure.name)]
    introduced = max([measure.name, *reversed(before)], key=lambda name: own[name])
    finite = bool(np.isfinite(measure.error))
    return BadNode(
        measure.name, measure.op, measure.output, measure.error, measure.own, finite, measure.peak, introduced
    )


def half_nodes(mixed: Any) -> set[str]:
    """Return the nodes of a mixed model that compute in fp16, without those that only move or cast."""
    from onnx import shape_inference

    kinds = types(shape_inference.infer_shapes(mixed))
    return {
        base(node.name)
        for node in mixed.graph.node
        if node.op_type not in MOVERS and node.op_type != "Cast" and any(kinds.get(n) == FLOAT16 for n in node.output)
    }
