"""Opening an engine: the one list of engines, and a family's stages and language model on the one that is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from tritone.engines.inputs import known_stage
from tritone.engines.onnx import onnx_call, ready_made_call
from tritone.engines.torch_run import TorchRun
from tritone.errors import ConfigError
from tritone.lm.description import CausalLm, MissingLm, StageLm
from tritone.lm.protocols import Llm
from tritone.stage import Arrays, Call, Family, Stage

ENGINES = ("torch", "torchscript", "onnxruntime", "tensorrt")
"""Everything that runs stages. All but torch run the files of a build folder."""
FORMATS = {"torchscript": "torchscript", "onnxruntime": "onnx", "tensorrt": "tensorrt"}
"""The format of the files that each engine runs."""


def engine_name(name: str) -> str:
    """Return the engine's name; the format "onnx" stands for the engine that runs it."""
    return "onnxruntime" if name == "onnx" else name


def check_choices(engine: str, dtype: str, attention: str, fp16: bool = False) -> None:
    """Raise ConfigError unless the engine makes its networks from the checkpoint, which dtype and attention need."""
    asked = [f"{name} {value}" for name, value in (("dtype", dtype), ("attention", attention)) if value]
    if asked and engine != "torch":
        raise ConfigError(
            f"{' and '.join(asked)} was asked for with engine {engine}, which runs exported files with the arithmetic "
            "that they have; engine torch has both choices"
        )
    if dtype and fp16:
        raise ConfigError(f"both fp16 and dtype {dtype} were asked for; they exclude each other, give one")


def open_call(
    engine: str,
    stages: Iterable[Stage],
    build: Path,
    run: TorchRun,
    checkpoint: Path | None = None,
    recorded: bool = True,
) -> Call:
    """Return the stages on the engine; each is opened when it is first called.

    Args:
        build: the build folder whose files are run.
        run: device, threads and precision, of every engine.
        checkpoint: the folder whose own ONNX files run beside torch and TorchScript, which have none of these
            networks; None runs their copies in the build folder.
        recorded: refuse TensorRT plans that the build folder's manifest does not record; False while building them.

    Raises:
        ConfigError: the engine is unknown.
    """
    stages, precision, threads = tuple(stages), "fp16" if run.fp16 else "fp32", run.threads or 1
    if engine == "tensorrt":
        from tritone.engines.tensorrt import plan_call

        return plan_call(build, stages, precision, run.index, recorded)
    if engine == "onnxruntime":
        return onnx_call(build, stages, threads, precision=precision)
    if engine == "torchscript":
        from tritone.engines.torchscript import torchscript_call

        with_module = [stage for stage in stages if stage.build is not None]
        modules: Call = torchscript_call(build, with_module, precision, threads, run.device)
    elif engine == "torch":
        from tritone.engines.torch import torch_call

        modules = torch_call(stages, run)
    else:
        raise ConfigError(f"unknown engine {engine!r}; there are {', '.join(ENGINES)}")
    return with_ready_made(modules, stages, build, threads, checkpoint)


def with_ready_made(
    modules: Call, stages: Iterable[Stage], build: Path, threads: int = 1, checkpoint: Path | None = None
) -> Call:
    """Return `modules`, joined by onnxruntime for the stages without a torch module, which are ready-made ONNX files.

    Args:
        checkpoint: the folder that brings these files; None runs their copies in the build folder.
    """
    by_name = {stage.name: stage for stage in stages}
    given = [stage for stage in by_name.values() if stage.build is None]
    ready_made = onnx_call(build, given, threads) if checkpoint is None else ready_made_call(checkpoint, given, threads)

    def call(stage_name: str, **arrays: np.ndarray) -> Arrays:
        stage = known_stage(by_name, stage_name)
        return (ready_made if stage.build is None else modules)(stage_name, **arrays)

    return call


def open_llm(family: Family, call: Call, open_causal: Callable[[CausalLm], Llm]) -> Llm:
    """Return the family's language model.

    Args:
        call: runs the family's stages, of which some language models are made.
        open_causal: opens one that an engine loads as a whole.
    """
    if isinstance(family.lm, StageLm):
        return family.lm.open(call)
    if isinstance(family.lm, CausalLm):
        return open_causal(family.lm)
    return MissingLm(f"{family.name} has no language model")
