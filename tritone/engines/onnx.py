"""Stages on onnxruntime on the CPU, from a build folder or from the ONNX files a checkpoint brings."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tritone.build.layout import data_file, stage_path
from tritone.engines.inputs import check_inputs, dim_text, known_stage, listed, tensor_text
from tritone.errors import ArtifactError, CheckpointError
from tritone.stage import Arrays, Call, Stage

ONNX_TYPES = {
    "float32": "tensor(float)",
    "float16": "tensor(float16)",
    "int64": "tensor(int64)",
    "int32": "tensor(int32)",
    "bool": "tensor(bool)",
}


def open_session(path: Path, threads: int = 1, arena: bool = False) -> Any:
    """Return an onnxruntime session on the CPU; idle threads sleep, because several sessions share the cores.

    Weights in a data file are not copied into memory: the processes that open it share them.

    Args:
        arena: keep memory between runs, as much as the longest needed; for runs that follow each other fast.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = arena
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    if data_file(path).is_file():
        # Packed weights are a copy in every process; left as they are they stay in the file, mapped once for all.
        options.add_session_config_entry("session.disable_prepacking", "1")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        lost = "" if path.is_file() else "does not exist"
        problem = lost or missing_data(path, str(error)) or f"cannot be loaded ({error})"
        raise ArtifactError(f"{path} {problem}; run: tritone build") from error


def missing_data(path: Path, complaint: str) -> str:
    """In words, that the data file of an ONNX file does not exist; empty if that is not what an engine complains of."""
    data = data_file(path)
    return "" if data.is_file() or data.name not in complaint else f"keeps weights in {data}, which does not exist"


def decodes(stage: Stage) -> bool:
    """Return whether the stage is run once per token: it has a state, and of one sequence only.

    Its state is large and new with every token; to have the system clear memory for it each time would take longer than
    the arithmetic.
    """
    return any(tensor.name.endswith("_state") and tensor.shape[0] == 1 for tensor in stage.inputs)


def check_signature(stage: Stage, session: Any, path: Path) -> None:
    """Raise ArtifactError naming the first tensor of the file that differs from the declaration.

    Compared are names and their order, dtypes, ranks, fixed sizes and the symbolic names of the axes. Of a ready-made
    file, whose tensors go by position, only how many it has and their dtypes and ranks.
    """
    for kind, declared, values in (
        ("inputs", stage.inputs, session.get_inputs()),
        ("outputs", stage.outputs, session.get_outputs()),
    ):
        names, stated = [value.name for value in values], [tensor.name for tensor in declared]
        if len(names) != len(stated) or (not stage.file and names != stated):
            raise ArtifactError(f"{path} has the {kind} {listed(names)}, stage {stage.name} declares {listed(stated)}")
        for tensor, value in zip(declared, values, strict=True):
            shape = [str(dim) for dim in value.shape]
            same = len(shape) == len(tensor.shape) if stage.file else shape == [dim_text(d) for d in tensor.shape]
            if value.type != ONNX_TYPES[tensor.dtype] or not same:
                raise ArtifactError(
                    f"{path}: {value.name} is {value.type} [{', '.join(shape)}], "
                    f"stage {stage.name} declares {tensor_text(tensor)}"
                )


def run_session(session: Any, stage: Stage, arrays: Mapping[str, np.ndarray]) -> Arrays:
    """Return the outputs by their declared names; inputs and outputs of a ready-made file are matched by position."""
    inputs = zip(session.get_inputs(), stage.inputs, strict=True)
    results = session.run(None, {value.name: arrays[tensor.name] for value, tensor in inputs})
    return {tensor.name: result for tensor, result in zip(stage.outputs, results, strict=True)}


def onnx_call(
    folder: str | Path, stages: Iterable[Stage], threads: int = 1, eager: bool = False, precision: str = "fp32"
) -> Call:
    """Return a Call on onnxruntime.

    Args:
        folder: a build folder.
        threads: of each session.
        eager: open every session now, so that a bad file is reported before the first request.
        precision: "fp32", or "fp16" for the mixed-precision files (the CPU rounds their values, but is not faster).
    """
    return session_call(lambda stage: stage_path(folder, stage.name, precision), stages, threads, eager)


def ready_made_call(model_dir: str | Path, stages: Iterable[Stage], threads: int = 1) -> Call:
    """Return a Call on the networks a checkpoint brings as ONNX files, where they lie.

    Raises:
        CheckpointError: on a call, the checkpoint lacks the stage's file.
    """

    def path(stage: Stage) -> Path:
        file = Path(model_dir) / stage.file
        if not file.is_file():
            present = listed(sorted(p.name for p in Path(model_dir).glob("*.onnx")))
            raise CheckpointError(f"{file} does not exist; stage {stage.name} needs it; ONNX files found: {present}")
        return file

    return session_call(path, [stage for stage in stages if stage.build is None], threads)


def session_call(path: Callable[[Stage], Path], stages: Iterable[Stage], threads: int, eager: bool = False) -> Call:
    """Return a Call on onnxruntime sessions, each opened on first use from the file `path(stage)`."""
    by_name = {stage.name: stage for stage in stages}
    sessions: dict[str, Any] = {}
    lock = threading.Lock()

    def session(name: str) -> Any:
        with lock:
            if name not in sessions:
                file = path(by_name[name])
                opened = open_session(file, threads, decodes(by_name[name]))
                check_signature(by_name[name], opened, file)
                sessions[name] = opened
            return sessions[name]

    def call(stage_name: str, **arrays: np.ndarray) -> Arrays:
        stage = known_stage(by_name, stage_name)
        check_inputs(stage, arrays)
        return run_session(session(stage_name), stage, arrays)

    if eager:
        for name in by_name:
            session(name)
    return call
