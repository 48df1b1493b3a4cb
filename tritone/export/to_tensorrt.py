"""Compile a stage's ONNX file to a TensorRT plan, as Triton's tensorrt_plan backend reads it.

One code path serves `tensorrt` 10 and 11 and `tensorrt_rtx`. Networks are strongly typed: the ONNX file decides which
nodes are fp16. TF32 is off, because it has ten bits of mantissa. One optimisation profile covers the stage's axis
ranges. Tensors carry the declared names, also where a ready-made file has its own.

TensorRT-RTX 1.7.1, which compiles without a GPU, has been run. `tensorrt` 10 and 11, which need a GPU, are written from
NVIDIA's documentation and have not been run; nor has the timing cache, which TensorRT-RTX does not have.
"""

from __future__ import annotations

import os
import re
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tritone.build.hashes import Hashes
from tritone.engines import gpu
from tritone.engines.inputs import dim_text, listed, tensor_text
from tritone.engines.label import Label
from tritone.engines.onnx import missing_data
from tritone.errors import ArtifactError
from tritone.export.tensorrt_options import TIMING_CACHE, Options, options, profiled
from tritone.export.to_onnx import scratch
from tritone.stage import Stage, Tensor

__all__ = ["TOOLS", "Built", "Options", "available", "build_stage", "can_run", "options", "platform"]
TOOLS = ("tensorrt", "tensorrt_rtx_cu13", "tensorrt_rtx_cu12")
DTYPES = {"FLOAT": "float32", "HALF": "float16", "INT32": "int32", "INT64": "int64", "BOOL": "bool"}
ENDS = ("lo", "opt", "hi")


@dataclass(frozen=True)
class Built:
    """The result of a build: platform, bytes of the plan, seconds, and bytes of GPU memory at the largest sizes."""

    platform: str
    bytes: int
    seconds: float
    activations: int | None


def available() -> str:
    """Return name and version of the package that builds.

    Raises:
        ArtifactError: none is installed; the message names those that can be.
    """
    return gpu.package(gpu.backend())


def platform(options: Options) -> str:
    """Return the platform of plans built with these options, part of their identity, including the profile's ranges."""
    ranges = ",".join(f"{name}={'/'.join(map(str, sizes))}" for name, sizes in sorted(options.profile.items()))
    return f"{gpu.target_platform(options.compute_capability)} {ranges}".rstrip()


def can_run(platform: str = "") -> bool:
    """Return whether plans, of that platform if one is given, run in this process on this machine."""
    import torch

    here = gpu.gpu()
    fits = not platform or (here and not gpu.mismatch(platform, f"{available()} {here}"))
    return bool(here and fits and torch.cuda.is_available())


def build_stage(stage: Stage, source: Path, path: Path, settings: Options | None = None) -> Built:
    """Compile an ONNX file of the stage to the plan `path`; replaces the file in one step.

    Args:
        source: fp32 or mixed fp16; its types decide the plan's precision.

    Raises:
        ArtifactError: TensorRT or the ONNX file is missing, TensorRT cannot read the file, the file is not of this
            stage, or TensorRT cannot compile it under these options.
    """
    settings, began = settings or Options(), time.monotonic()
    trt, target = gpu.backend(), platform(settings)
    stage = profiled(stage, settings.profile)
    if not source.is_file():
        raise ArtifactError(
            f"{source} does not exist; the plan of {stage.name} is made from it; run: tritone build --formats onnx"
        )
    log = gpu.collector(trt)
    builder = trt.Builder(log)
    builder.max_threads = min(os.cpu_count() or 1, 16)
    network = builder.create_network(creation_flags(trt))
    parse(trt, network, log, source)
    check_network(stage, network, source)
    config = configure(trt, builder, target, settings)
    add_profile(stage, builder, config, network, log)
    network.name = Label(stage.name, target, path.name, Hashes().tree(source)).text()
    cache = settings.timing_cache or path.parent / TIMING_CACHE
    with warnings.catch_warnings(), scratch(path) as part:
        warnings.simplefilter("ignore", DeprecationWarning)
        use_timing_cache(trt, config, cache)
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise ArtifactError(f"{gpu.package(trt)} cannot compile {source} for {target.split()[2]}: {log.problem()}")
        part.write_bytes(plan)
        keep_timing_cache(trt, config, cache)
    return Built(target, path.stat().st_size, round(time.monotonic() - began, 2), activations(log.notes))


def creation_flags(trt: Any) -> int:
    """Return the flags of a strongly typed network; newer versions have no other kind."""
    if gpu.is_rtx(trt) or int(trt.__version__.split(".")[0]) >= 11:
        return 0
    return 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


def parse(trt: Any, network: Any, log: Any, source: Path) -> None:
    """Read the ONNX file into the network.

    Raises:
        ArtifactError: the parser refuses it; the message lists all of its errors.
    """
    parser = trt.OnnxParser(network, log)
    if parser.parse_from_file(str(source)):
        return
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    problems = [f"{e.node_operator()} {e.node_name()}: {e.desc()}".strip(" :") for e in errors] or [log.problem()]
    missing = missing_data(source, log.problem())
    if missing:
        raise ArtifactError(f"{source} {missing}; run: tritone build --formats onnx")
    raise ArtifactError(f"{gpu.package(trt)} cannot read {source}: {'; '.join(problems)}")


def check_network(stage: Stage, network: Any, source: Path) -> None:
    """Give all tensors their declared names; raise ArtifactError for the first that does not fit its declaration."""
    for kind, declared, actual in (
        ("inputs", stage.inputs, [network.get_input(i) for i in range(network.num_inputs)]),
        ("outputs", stage.outputs, [network.get_output(i) for i in range(network.num_outputs)]),
    ):
        names, expected = [tensor.name for tensor in actual], [tensor.name for tensor in declared]
        if len(names) != len(expected) or (not stage.file and names != expected):
            raise ArtifactError(
                f"{source} has the {kind} {listed(names)}, stage {stage.name} declares {listed(expected)}"
            )
        for tensor, value in zip(declared, actual, strict=True):
            if not fits(tensor, value, ready_made=bool(stage.file)):
                shape = ", ".join(value.get_dimension_name(i) or str(n) for i, n in enumerate(value.shape))
                raise ArtifactError(
                    f"{source}: {value.name} is {DTYPES.get(value.dtype.name, value.dtype.name)} [{shape}], "
                    f"stage {stage.name} declares {tensor_text(tensor)}"
                )
            value.name = tensor.name


def fits(tensor: Tensor, value: Any, ready_made: bool) -> bool:
    """Return whether dtype and rank are as declared, and sizes and axis names where TensorRT knows them (not -1)."""
    if DTYPES.get(value.dtype.name) != tensor.dtype or len(value.shape) != len(tensor.shape):
        return False
    for index, (dim, size) in enumerate(zip(tensor.shape, value.shape, strict=True)):
        if isinstance(dim, int):
            if size not in (dim, -1):
                return False
        elif not ready_made:
            name = value.get_dimension_name(index)
            if size != -1 or (name and name != dim_text(dim)):
                return False
    return True


def configure(trt: Any, builder: Any, platform: str, options: Options) -> Any:
    """Return the configuration of the builder."""
    config = builder.create_builder_config()
    config.builder_optimization_level = options.level
    config.clear_flag(trt.BuilderFlag.TF32)
    if options.workspace:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace << 20)
    targets = platform.split()[2].split("+")
    if gpu.is_rtx(trt) and targets != [gpu.PORTABLE]:
        config.num_compute_capabilities = len(targets)
        for index, target in enumerate(targets):
            config.set_compute_capability(getattr(trt.ComputeCapability, target.upper()), index)
    if options.progress is not None:
        config.progress_monitor = monitor(trt, options.progress)
    return config


def add_profile(stage: Stage, builder: Any, config: Any, network: Any, log: Any) -> None:
    """Add an optimisation profile over the stage's ranges; a tensor that holds sizes gets its declared values."""
    profile = builder.create_optimization_profile()
    for index, tensor in enumerate(stage.inputs):
        shapes = [tensor.sizes(stage.sizes(end)) for end in ENDS]
        if network.get_input(index).is_shape_tensor:
            low, high = int(tensor.values[0]), max(int(tensor.values[0]), int(tensor.values[1]) - 1)
            count = shapes[1][0] if shapes[1] else 1
            profile.set_shape_input(tensor.name, [low] * count, [low] * count, [high] * count)
        else:
            profile.set_shape(tensor.name, *shapes)
    if config.add_optimization_profile(profile) < 0:
        sizes = ", ".join(f"{axis.name} {axis.lo}/{axis.opt}/{axis.hi}" for axis in stage.axes)
        raise ArtifactError(f"TensorRT refuses the sizes of {stage.name} ({sizes}): {log.problem()}")


def use_timing_cache(trt: Any, config: Any, path: Path) -> None:
    """Reuse the kernel times measured by earlier builds, unless they are of another GPU or version."""
    if gpu.is_rtx(trt):
        return
    known = config.create_timing_cache(path.read_bytes() if path.is_file() else b"")
    if known is None or not config.set_timing_cache(known, False):
        config.set_timing_cache(config.create_timing_cache(b""), False)


def keep_timing_cache(trt: Any, config: Any, path: Path) -> None:
    """Save the measured kernel times for the next build."""
    if not gpu.is_rtx(trt):
        with scratch(path) as part:
            part.write_bytes(config.get_timing_cache().serialize())


def monitor(trt: Any, progress: Callable[[str], None]) -> Any:
    """Return a TensorRT progress monitor that reports the outermost phases."""

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            progress(name)

        def phase_finish(self, name: str) -> None:
            """Do nothing."""

        def step_complete(self, name: str, step: int) -> bool:
            return True

    return Monitor()


def activations(notes: Iterable[str]) -> int | None:
    """Return the GPU memory in bytes, beside the weights, at the largest sizes; None if the builder's log has none."""
    matches = [re.search(r"Total Activation Memory: (\d+) bytes", note) for note in notes]
    return max((int(match[1]) for match in matches if match), default=None)
