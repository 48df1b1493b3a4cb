"""Stages on TensorRT plans on a GPU; plans that belong to another machine are refused.

The code below `PlanCall` that touches a device is tested by tests/gpu, on machines with a GPU.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tritone.build.layout import plan_key
from tritone.build.manifest import read_manifest
from tritone.engines import gpu
from tritone.engines.inputs import check_inputs, dim_text, known_stage, listed
from tritone.engines.label import check_plan
from tritone.errors import ArtifactError, EnvironmentProblem, InvalidRequest
from tritone.stage import Arrays, Stage

KERNELS = ".kernels"
"""Suffix of the file beside a plan that keeps what TensorRT-RTX compiled for this machine's GPU."""


def check_range(stage: Stage, name: str, shape: tuple[int, ...], profile: Iterable[Iterable[int]], path: Path) -> None:
    """Raise InvalidRequest naming the axis when a shape lies outside the engine's smallest to largest shape."""
    tensor = next(tensor for tensor in stage.inputs if tensor.name == name)
    low, _, high = profile
    for dim, actual, least, most in zip(tensor.shape, shape, low, high, strict=True):
        if not least <= actual <= most:
            raise InvalidRequest(name, f"{dim_text(dim)} is {actual}; the engine {path} takes {least} to {most}")


class PlanCall:
    """A Call on TensorRT engines; each is loaded on first use and runs one call at a time."""

    def __init__(self, folder: Path, stages: Iterable[Stage], precision: str, device: int, recorded: bool) -> None:
        self._folder, self._precision, self._device, self._recorded = folder, precision, device, recorded
        self._stages = {stage.name: stage for stage in stages}
        self._engines: dict[str, _Engine] = {}
        self._lock = threading.Lock()
        self._platform = gpu.found_platform(device)
        self._trt = gpu.backend()
        self._log = gpu.collector(self._trt)
        self._runtime = self._trt.Runtime(self._log)
        require_cuda()

    def __call__(self, stage_name: str, **arrays: np.ndarray) -> Arrays:
        stage = known_stage(self._stages, stage_name)
        check_inputs(stage, arrays)
        with self._lock:
            if stage_name not in self._engines:
                self._engines[stage_name] = self._open(stage)
        return self._engines[stage_name].run(arrays)

    def _open(self, stage: Stage) -> _Engine:
        key = plan_key(stage.name, self._precision)
        path = self._folder / key
        entry = read_manifest(self._folder).get(key)
        if self._recorded and entry is None:
            raise ArtifactError(f"{path} is not in the build folder's manifest; run: tritone build")
        check_plan(entry if self._recorded else None, self._platform, path)
        engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if engine is None:
            raise ArtifactError(f"{path} cannot be loaded: {self._log.problem()}")
        return _Engine(self._trt, stage, engine, path, self._device, self._log)

    def close(self) -> None:
        """Keep the kernels TensorRT-RTX compiled for the next process and free the engines."""
        for engine in self._engines.values():
            engine.keep_kernels()
        self._engines.clear()


def plan_call(
    folder: str | Path, stages: Iterable[Stage], precision: str = "fp16", device: int = 0, recorded: bool = True
) -> PlanCall:
    """Return a Call on the TensorRT engines of a build folder.

    Args:
        recorded: refuse engines that the manifest does not record as they are; False while building one.

    Raises:
        EnvironmentProblem: no such GPU, or a torch that cannot use it.
        ArtifactError: no TensorRT; later, on first use, an engine that is missing, damaged, or of another machine.
        InvalidRequest: on a call, an input outside the sizes the engine was built for.
    """
    return PlanCall(Path(folder), stages, precision, device, recorded)


def require_cuda() -> None:
    """Raise EnvironmentProblem unless torch, which holds the tensors, can use the GPU."""
    import torch

    if not torch.cuda.is_available():
        raise EnvironmentProblem(
            f"torch {torch.__version__} cannot use the GPU; install a CUDA build of the same version "
            "(--index-url https://download.pytorch.org/whl/cu130) and check the driver with nvidia-smi"
        )


def cuda_device(index: int) -> Any:
    """Return the torch device of a GPU."""
    import torch

    return torch.device("cuda", index)


class _Engine:
    """One deserialised engine and its execution context."""

    def __init__(self, trt: Any, stage: Stage, engine: Any, path: Path, device: int, log: Any) -> None:
        import torch

        self.trt, self.stage, self.engine, self.path, self.log = trt, stage, engine, path, log
        self.device = cuda_device(device)
        # An empty tensor has no address, but TensorRT wants one.
        self.spare = torch.empty(8, device=self.device)
        self.lock = threading.Lock()
        self.cache: Any = None
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        wanted = [tensor.name for tensor in (*stage.inputs, *stage.outputs)]
        if sorted(names) != sorted(wanted):
            raise ArtifactError(f"{path} has the tensors {listed(names)}, stage {stage.name} declares {listed(wanted)}")
        self.ranges = {tensor.name: engine.get_tensor_profile_shape(tensor.name, 0) for tensor in stage.inputs}
        self.context = self.new_context()
        if self.context is None:
            raise ArtifactError(f"{path} cannot run on this GPU: {log.problem()}")

    def new_context(self) -> Any:
        """Return an execution context; for TensorRT-RTX one that starts from the kernels compiled by earlier
        processes.
        """
        if not gpu.is_rtx(self.trt):
            return self.engine.create_execution_context()
        config = self.engine.create_runtime_config()
        self.cache = config.create_runtime_cache()
        with contextlib.suppress(FileNotFoundError):
            # Refused by TensorRT-RTX itself when they are of another GPU or version; then they are compiled anew.
            self.cache.deserialize(self.kernels.read_bytes())
        config.set_runtime_cache(self.cache)
        return self.engine.create_execution_context(config)

    @property
    def kernels(self) -> Path:
        """The file of compiled kernels."""
        return self.path.with_name(self.path.name + KERNELS)

    def keep_kernels(self) -> None:
        """Write the compiled kernels beside the plan; a folder that cannot be written only costs time."""
        if self.cache is not None:
            with contextlib.suppress(OSError):
                self.kernels.write_bytes(self.cache.serialize())

    def run(self, arrays: Mapping[str, np.ndarray]) -> Arrays:
        """Return the stage's outputs by name, copied back from the GPU."""
        import torch

        with self.lock, torch.cuda.device(self.device):
            stream = torch.cuda.Stream(self.device)
            with torch.cuda.stream(stream):
                held = [self.bind_input(tensor.name, arrays[tensor.name]) for tensor in self.stage.inputs]
                missing = self.context.infer_shapes()
                if missing:
                    raise ArtifactError(f"{self.path}: no shape for {listed(missing)}; {self.log.problem()}")
                outputs = {t.name: self.bind_output(t.name, t.dtype) for t in self.stage.outputs}
                if not self.context.execute_async_v3(stream.cuda_stream):
                    raise ArtifactError(f"{self.path} failed: {self.log.problem()}")
            stream.synchronize()
            held.clear()
            return {name: value.cpu().numpy() for name, value in outputs.items()}

    def bind_input(self, name: str, array: np.ndarray) -> Any:
        """Copy an input to where the engine reads it and say its shape; returns the memory, to be kept until done."""
        import torch

        check_range(self.stage, name, array.shape, self.ranges[name], self.path)
        on_host = self.engine.get_tensor_location(name) == self.trt.TensorLocation.HOST
        value = torch.from_numpy(np.ascontiguousarray(array)).to("cpu" if on_host else self.device)
        if not self.context.set_input_shape(name, tuple(array.shape)):
            raise InvalidRequest(name, f"the engine {self.path} refuses {list(array.shape)}: {self.log.problem()}")
        self.context.set_tensor_address(name, value.data_ptr() or self.spare.data_ptr())
        return value

    def bind_output(self, name: str, dtype: str) -> Any:
        """Return memory of the output's shape, which the engine will write."""
        import torch

        shape = tuple(self.context.get_tensor_shape(name))
        if min(shape, default=0) < 0:
            raise ArtifactError(f"{self.path}: the shape of {name} depends on values; stages must not do that")
        value = torch.empty(shape, dtype=getattr(torch, dtype), device=self.device)
        self.context.set_tensor_address(name, value.data_ptr() or self.spare.data_ptr())
        return value
