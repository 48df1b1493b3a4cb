"""Export a stage as an ONNX file with exactly the declared names, dtypes, ranks and symbolic axes.

The tracing exporter is used: on these networks its graphs are as fast as those of `torch.export`, in a tenth of the
time. The error a trace can make, a size baked in as a number, is found by comparing at three sizes.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tritone.build.disk import scratch_folder
from tritone.build.layout import data_file
from tritone.engines.inputs import dim_text
from tritone.engines.onnx import check_signature, open_session
from tritone.errors import ArtifactError, CheckpointError
from tritone.export.onnx_file import LARGEST_BYTES, load, save
from tritone.export.to_2d import to_2d
from tritone.stage import Stage

OPSET = 18
TOOLS = ("torch", "onnx", "onnxscript", "onnxruntime")


def export_stage(stage: Stage, path: Path, module: Any = None, largest: int = LARGEST_BYTES) -> None:
    """Write the stage's torch module (`stage.build()` unless given) to `path` in fp32; replaces the file in one step.

    Args:
        largest: size in bytes above which the weights go to a data file beside the graph.

    Raises:
        ArtifactError: the exported file is not valid ONNX, or its inputs and outputs are not the declared ones.
    """
    import torch

    module = (stage.build() if module is None and stage.build else module).eval()
    example = stage.example(trace_sizes(stage))
    with scratch(path) as part:
        with quiet(), torch.inference_mode():
            torch.onnx.export(
                module,
                tuple(torch.from_numpy(example[tensor.name]) for tensor in stage.inputs),
                str(part),
                input_names=[tensor.name for tensor in stage.inputs],
                output_names=[tensor.name for tensor in stage.outputs],
                dynamic_axes=dynamic_axes(stage),
                opset_version=OPSET,
                dynamo=False,
            )
        # A model too large for one file: the tracing exporter has written a file for each weight into the same folder.
        model = to_2d(simplified(load(part)))
        fix_output_sizes(stage, model)
        save(model, part, largest)
        check_file(stage, part, path)


def link_ready_made(stage: Stage, model_dir: Path, path: Path) -> None:
    """Link, or else copy, the checkpoint's own ONNX file of the stage to `path`."""
    source = model_dir / stage.file
    if not source.is_file():
        present = ", ".join(sorted(p.name for p in model_dir.glob("*.onnx"))) or "none"
        raise CheckpointError(f"{source} does not exist; stage {stage.name} needs it; ONNX files found: {present}")
    with scratch(path) as part:
        try:
            os.link(source.resolve(), part)
        except OSError:
            shutil.copyfile(source, part)
        check_file(stage, part, source)


def check_file(stage: Stage, part: Path, named: Path) -> None:
    """Raise ArtifactError, which calls the file `named`, unless `part` is valid and fits the declaration."""
    import onnx

    try:
        onnx.checker.check_model(str(part), full_check=not stage.file)
    except Exception as error:  # the checker and the protobuf reader raise unrelated types
        raise ArtifactError(f"{named} is not a valid ONNX file: {str(error).splitlines()[0]}") from error
    check_signature(stage, open_session(part), named)


def trace_sizes(stage: Stage) -> dict[str, int]:
    """Return the usual sizes, at least 2 where the declaration allows it: a size of 1 is traced as broadcasting."""
    return {axis.name: max(axis.opt, min(2, axis.hi)) for axis in stage.axes}


def dynamic_axes(stage: Stage) -> dict[str, dict[int, str]]:
    """Return the symbolic name of every size that is not a number, by tensor name and position."""
    return {
        tensor.name: {i: dim_text(dim) for i, dim in enumerate(tensor.shape) if not isinstance(dim, int)}
        for tensor in (*stage.inputs, *stage.outputs)
    }


def fix_output_sizes(stage: Stage, model: Any) -> None:
    """Write the declared size or symbolic name where shape inference left an output's size open.

    `check_file` compares the inferred sizes, and by strict inference finds a wrong size written here.
    """
    for tensor, value in zip(stage.outputs, model.graph.output, strict=True):
        for dim, inferred in zip(tensor.shape, value.type.tensor_type.shape.dim, strict=False):
            if not inferred.HasField("dim_value"):
                if isinstance(dim, int):
                    inferred.dim_value = dim
                else:
                    inferred.dim_param = dim_text(dim)


def simplified(model: Any) -> Any:
    """Return the graph with constants folded, shape arithmetic simplified and dead nodes removed; every node
    named.

    The exporter names nodes by their modules and outputs after nodes. A node with which the optimizer replaced another
    gets that one's name back, so that patterns of node names hold in the next export.
    """
    import onnxscript.optimizer

    with quiet():
        model = onnxscript.optimizer.optimize(model)
    for node in model.graph.node:
        scope, separator, _ = node.output[0].rpartition("_output_")
        if separator and not node.name.startswith("/"):
            node.name = scope
    return model


@contextlib.contextmanager
def scratch(path: Path) -> Iterator[Path]:
    """Yield a path beside `path`; what was written there replaces `path` when the block ends well, with its data
    file.
    """
    with scratch_folder(path.parent, path.name) as folder:
        part = folder / path.name
        yield part
        if data_file(part).is_file() or data_file(path).is_file():
            # A graph must never lie beside the data file of another.
            path.unlink(missing_ok=True)
            data_file(path).unlink(missing_ok=True)
        if data_file(part).is_file():
            os.replace(data_file(part), data_file(path))
        os.replace(part, path)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence deprecation notices, tracer warnings and progress on stdout inside the block."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
