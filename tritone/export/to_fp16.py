"""Convert a stage's fp32 ONNX file to a mixed fp16 file in which every type is explicit.

    x: float32 -> Cast -> [fp16 nodes, fp16 weights] -> Cast -> [a node of keep_fp32] -> Cast -> ... -> y: float32

Strongly typed compilers take such a file as it is, so the file compared on a CPU is the one that is compiled: no engine
chooses precisions. Casts stand only where the type changes, one for each value and type. The converter that comes with
onnxruntime is not used: it makes one cast for each kept reader of a value, all of the same name, rounds the weights of
kept nodes, and clamps constants beyond the range silently.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from tritone.errors import ArtifactError
from tritone.export.fp16_rewriter import LARGEST, SMALLEST, Rewriter
from tritone.export.onnx_file import LARGEST_BYTES, load, save
from tritone.export.onnx_graph import prepared
from tritone.export.to_onnx import check_file, scratch
from tritone.stage import Stage

TOOLS = ("onnx", "onnxruntime")


def convert_stage(stage: Stage, source: Path, path: Path, largest: int = LARGEST_BYTES) -> None:
    """Write the mixed fp16 form of the fp32 file `source` to `path`; replaces the file in one step.

    The boundary keeps its dtypes. Nodes that match a pattern of `stage.keep_fp32` stay fp32 with their weights.

    Args:
        largest: size of a file in bytes, see `tritone.export.to_onnx.export_stage`.

    Raises:
        ArtifactError: the source is missing or damaged, a pattern matches no node, a constant has no fp16 value and
            its node is not kept (the message names it), or the result is not valid ONNX of the declared boundary.
    """
    model = load(source)
    with scratch(path) as part:
        save(mixed(model, stage.keep_fp32, f"stage {stage.name}", part.parent), part, largest)
        check_file(stage, part, path)


def mixed(model: Any, keep: Iterable[str], what: str, folder: Path | None = None) -> Any:
    """Return the model in mixed fp16; nodes whose names match a pattern of `keep` stay fp32.

    Args:
        what: the subject of error messages.
        folder: where the fp16 form of weights outside the graph is written; in memory if None.
    """
    model = prepared(model)
    names = [node.name for node in model.graph.node]
    keep = tuple(keep)
    unmatched = [pattern for pattern in keep if not any(fnmatchcase(name, pattern) for name in names)]
    if unmatched:
        raise ArtifactError(
            f"{what} keeps {', '.join(unmatched)} in fp32, which matches none of its {len(names)} nodes; "
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
    """Make a `prepared` model mixed in place; return the constants that have no fp16 value by their node's name."""
    rewriter = Rewriter(model, kept, folder)
    rewriter.run()
    return rewriter.problems
