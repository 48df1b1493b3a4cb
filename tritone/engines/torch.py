"""Stages on torch: the modules of the checkpoint, where and how a `TorchRun` says."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from tritone.engines.inputs import check_inputs, known_stage
from tritone.engines.torch_run import TorchRun
from tritone.errors import ArtifactError
from tritone.stage import Arrays, Stage

CPU = TorchRun()


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
