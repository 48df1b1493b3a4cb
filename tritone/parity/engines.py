"""The engines that run the files of a build folder, and the reference they are compared with."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tritone.build.layout import stage_path
from tritone.engines.open import FORMATS, open_call, with_ready_made
from tritone.engines.torch import TorchCall
from tritone.engines.torch_run import TorchRun
from tritone.errors import ConfigError
from tritone.stage import Call, Family, Stage


def engine_call(form: str, precision: str, stages: Iterable[Stage], out: Path, threads: int = 1) -> Call:
    """Return a Call on the files of that format and precision.

    Mixed fp16 ONNX files run in their rounded form: a CPU computes the file itself in fp32 and so hides overflow.
    """
    stages = list(stages)
    if form == "onnx" and precision == "fp16":
        from tritone.export.fp16_rounding import rounded_call

        return rounded_call({stage.name: stage_path(out, stage.name, precision) for stage in stages}, stages, threads)
    engines = {engine for engine, name in FORMATS.items() if name == form}
    if not engines:
        raise ConfigError(f"format {form!r} cannot be run; {', '.join(FORMATS.values())} can")
    run = TorchRun(threads=threads, fp16=precision == "fp16")
    return open_call(engines.pop(), stages, out, run, recorded=False)


def reference_call(family: Family, modules: TorchCall, out: Path, threads: int = 1) -> Call:
    """Return the reference of every format: the modules in fp32, and ready-made networks in their own ONNX files."""
    return with_ready_made(modules, family.stages, out, threads)
