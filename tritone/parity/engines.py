"""The engines that run the files of a build folder, and the reference they are compared with."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tritone.build.layout import stage_path
from tritone.engines.call import TorchCall, by_kind, onnx_call
from tritone.errors import ConfigError
from tritone.stage import Call, Family, Stage


def engine_call(form: str, precision: str, stages: Iterable[Stage], out: Path, threads: int = 1) -> Call:
    """Return a Call on the files of that format and precision.

    Mixed fp16 ONNX files run in their rounded form: a CPU computes the file itself in fp32 and so hides overflow.
    """
    stages = list(stages)
    if form == "onnx" and precision == "fp32":
        return onnx_call(out, stages, threads)
    if form == "onnx":
        from tritone.export.fp16_rounding import rounded_call

        return rounded_call({stage.name: stage_path(out, stage.name, precision) for stage in stages}, stages, threads)
    if form == "torchscript":
        from tritone.engines.torchscript import torchscript_call

        scripted = torchscript_call(out, [s for s in stages if s.build is not None], precision, threads)
        ready_made = onnx_call(out, [s for s in stages if s.build is None], threads)
        return by_kind(stages, scripted, ready_made)
    if form == "tensorrt":
        from tritone.engines.tensorrt import plan_call

        return plan_call(out, stages, precision, recorded=False)
    raise ConfigError(f"format {form!r} cannot be run; torchscript, onnx and tensorrt can")


def reference_call(family: Family, modules: TorchCall, out: Path, threads: int = 1) -> Call:
    """Return the reference of every format: the modules in fp32, and ready-made networks in their own ONNX files."""
    return by_kind(family.stages, modules, onnx_call(out, [s for s in family.stages if s.build is None], threads))
