"""Ways to run stages in this process: `call(stage_name, **arrays) -> {output: array}` on torch or on onnxruntime.

Both check what they are given against the declaration first, so a wrong array is named before an engine sees it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tritone.build.layout import data_file, stage_path
from tritone.engines.torch_run import TorchRun
from tritone.errors import ArtifactError, CheckpointError, InvalidRequest
from tritone.stage import Arrays, Axis, Call, Dim, Scaled, Stage, Tensor

CPU = TorchRun()

ONNX_TYPES = {
    "float32": "tensor(float)",
    "float16": "tensor(float16)",
    "int64": "tensor(int64)",
    "int32": "tensor(int32)",
    "bool": "tensor(bool)",
}


def dim_text(dim: Dim) -> str:
    """Return a dimension in words: "80", "frames", "480*frames", "2*frames+3".

    Also the symbolic name in exported files.
    """
    if isinstance(dim, int):
        return str(dim)
    if isinstance(dim, Axis):
        return dim.name
    factor = f"{dim.factor}*" if dim.factor != 1 else ""
    return f"{factor}{dim.axis.name}" + (f"{dim.offset:+d}" if dim.offset else "")


def tensor_text(tensor: Tensor) -> str:
    """Return a tensor's declaration in words: "float32 [batch, 80, frames]"."""
    return f"{tensor.dtype} [{', '.join(map(dim_text, tensor.shape))}]"


def check_inputs(stage: Stage, arrays: Mapping[str, np.ndarray]) -> None:
    """Raise InvalidRequest naming the first input that is missing, unknown, or of another dtype, rank or size."""
    declared = [tensor.name for tensor in stage.inputs]
    for name in declared:
        if name not in arrays:
            raise InvalidRequest(name, f"stage {stage.name} needs it; given {listed(arrays)} of {listed(declared)}")
    for name in arrays:
        if name not in declared:
            raise InvalidRequest(name, f"stage {stage.name} has no such input; its inputs are {listed(declared)}")
    sizes: dict[str, tuple[int, str]] = {}
    for tensor in stage.inputs:
        array = arrays[tensor.name]
        found = f"{array.dtype} {list(array.shape)}"
        wanted = f"stage {stage.name} takes {tensor_text(tensor)}, got {found}"
        if str(array.dtype) != tensor.dtype or array.ndim != len(tensor.shape):
            raise InvalidRequest(tensor.name, wanted)
        for dim, actual in zip(tensor.shape, array.shape, strict=True):
            if isinstance(dim, int):
                if actual != dim:
                    raise InvalidRequest(tensor.name, wanted)
                continue
            axis, factor, offset = (dim.axis, dim.factor, dim.offset) if isinstance(dim, Scaled) else (dim, 1, 0)
            value, rest = divmod(actual - offset, factor)
            known, source = sizes.setdefault(axis.name, (value, tensor.name))
            if rest or value != known:
                raise InvalidRequest(tensor.name, f"{wanted}; {axis.name} is {known} by input {source}")


class TorchCall:
    """A Call that runs the stages' own modules, without gradients."""

    def __init__(self, stages: Iterable[Stage], how: TorchRun = CPU) -> None:
        self._stages, self._how = {stage.name: stage for stage in stages}, how
        self._modules: dict[str, Any] = {}

    def module(self, name: str) -> Any:
        """Return the stage's torch module, built on first use."""
        stage = known_stage(self._stages, name)
        if stage.build is None:
            raise ArtifactError(f"stage {name} is the ready-made file {stage.file}; it has no torch module")
        if name not in self._modules:
            self._modules[name] = self._how.placed(stage.build())
        return self._modules[name]

    def __call__(self, stage_name: str, **arrays: np.ndarray) -> Arrays:
        stage = known_stage(self._stages, stage_name)
        check_inputs(stage, arrays)
        with self._how.scope():
            result = self.module(stage_name)(*(self._how.entered(arrays[tensor.name]) for tensor in stage.inputs))
        values = result if isinstance(result, tuple) else (result,)
        half = self._how.fp16
        return {
            tensor.name: (value.float() if half and tensor.dtype == "float32" else value).cpu().numpy()
            for tensor, value in zip(stage.outputs, values, strict=True)
        }


def torch_call(stages: Iterable[Stage], how: TorchRun = CPU) -> TorchCall:
    """Return the stages in torch; in fp32 on the CPU, the default, the reference every other engine is compared
    with.
    """
    return TorchCall(stages, how)


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
    for kind, declared, found in (
        ("inputs", stage.inputs, session.get_inputs()),
        ("outputs", stage.outputs, session.get_outputs()),
    ):
        names, wanted = [value.name for value in found], [tensor.name for tensor in declared]
        if len(names) != len(wanted) or (not stage.file and names != wanted):
            raise ArtifactError(f"{path} has the {kind} {listed(names)}, stage {stage.name} declares {listed(wanted)}")
        for tensor, value in zip(declared, found, strict=True):
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
        folder: a build folder, as `export/build_engines.py` writes it.
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


def by_kind(stages: Iterable[Stage], modules: Call, ready_made: Call) -> Call:
    """Return a Call that sends stages with a torch module one way and ready-made ones the other."""
    by_name = {stage.name: stage for stage in stages}

    def call(stage_name: str, **arrays: np.ndarray) -> Arrays:
        stage = known_stage(by_name, stage_name)
        return (ready_made if stage.build is None else modules)(stage_name, **arrays)

    return call


def known_stage(by_name: Mapping[str, Stage], name: str) -> Stage:
    """Return the stage of that name; KeyError lists those that exist."""
    if name not in by_name:
        raise KeyError(f"there is no stage {name!r}; there are {listed(by_name)}")
    return by_name[name]


def listed(names: Iterable[str]) -> str:
    """Return names joined for a message; "nothing" when there are none."""
    return ", ".join(names) or "nothing"
