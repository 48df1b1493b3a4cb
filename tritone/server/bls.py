"""A `Call` over Triton BLS: each stage is a model of the same server, called from the process of a Python model.

Stages do not call other models, so a busy one only makes its callers wait; after a time limit, the error names it.
"""

from __future__ import annotations

import concurrent.futures
import importlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from tritone.engines.inputs import check_inputs, known_stage
from tritone.errors import Cancelled, InvalidRequest, TritoneError
from tritone.stage import Arrays, Axis, Stage

STAGE = "stage:"
"""Prefix of the parameter `step` in the config of a Python model that runs a single stage."""
WAITING = 32
"""Most requests that one process sends at once; Triton's Python backend handles as many concurrently."""


class StageFailed(TritoneError):
    """A stage's model returned an error, or did not answer in time; the message names the stage."""


class Busy(TritoneError):
    """The model has reached its limit of concurrent texts; the client may try again later."""


def status(error: Exception) -> str:
    """Return the name of the error's code in Triton's Python backend."""
    codes = {InvalidRequest: "INVALID_ARG", Busy: "UNAVAILABLE", Cancelled: "CANCELLED"}
    return next((name for kind, name in codes.items() if isinstance(error, kind)), "INTERNAL")


def stage_prefix(family: str) -> str:
    """Return the prefix of the names of a family's stage models."""
    return f"{family}_stage_"


def model_name(prefix: str, stage: str) -> str:
    """Return the Triton model of a stage."""
    return prefix + stage


def batch_axis(stage: Stage) -> Axis | None:
    """Return the batch axis that every tensor of the stage begins with, or None; Triton can batch only with one."""
    axis = stage.inputs[0].shape[0]
    same = all(tensor.shape[0] == axis for tensor in (*stage.inputs, *stage.outputs))
    return axis if isinstance(axis, Axis) and same else None


class BlsCall:
    """Runs `call(stage, **arrays)` on the stage models of the same server.

    Args:
        stages: the declarations that inputs are checked against.
        prefix: prefix of the models' names.
        timeout: seconds to wait for one response, including the wait for a free instance.
        backend: the module `triton_python_backend_utils`, which exists only inside a server's Python model.
    """

    def __init__(self, stages: Iterable[Stage], prefix: str, timeout: float = 60, backend: Any = None) -> None:
        if backend is None:
            backend = importlib.import_module("triton_python_backend_utils")
        self._backend, self._prefix, self._timeout = backend, prefix, timeout
        self._stages = {stage.name: stage for stage in stages}
        self._pool = concurrent.futures.ThreadPoolExecutor(WAITING, thread_name_prefix="stage")

    def __call__(self, stage_name: str, **arrays: np.ndarray) -> Arrays:
        stage = known_stage(self._stages, stage_name)
        check_inputs(stage, arrays)
        response = self._ask(stage, arrays)
        if response.has_error():
            raise StageFailed(f"{self._named(stage)} failed: {response.error().message()}")
        # The arrays lie in memory shared with the server, which is freed with the response.
        return {tensor.name(): np.array(tensor.as_numpy()) for tensor in response.output_tensors()}

    def _ask(self, stage: Stage, arrays: Arrays) -> Any:
        pb = self._backend
        request = pb.InferenceRequest(
            model_name=model_name(self._prefix, stage.name),
            requested_output_names=[tensor.name for tensor in stage.outputs],
            inputs=[pb.Tensor(name, self._wire(stage, array)) for name, array in arrays.items()],
            preferred_memory=pb.PreferredMemory(pb.TRITONSERVER_MEMORY_CPU, 0),
            timeout=int(self._timeout * 1e6),
        )
        waiting = self._pool.submit(request.exec)
        try:
            return waiting.result(self._timeout)
        except concurrent.futures.TimeoutError:
            waiting.cancel()
            raise StageFailed(
                f"{self._named(stage)} did not answer within {self._timeout:g} s; its queue is too long, or it hangs"
            ) from None
        except TritoneError:
            raise
        except Exception as error:
            raise StageFailed(f"{self._named(stage)} could not be called: {error}") from error

    @staticmethod
    def _wire(stage: Stage, array: np.ndarray) -> np.ndarray:
        """Return the array as Triton requires it: contiguous, and with a size besides the batch if it forms batches."""
        column = array.ndim == 1 and batch_axis(stage) is not None
        return np.ascontiguousarray(array[:, None] if column else array)

    def _named(self, stage: Stage) -> str:
        return f"stage {stage.name} (model {model_name(self._prefix, stage.name)})"

    def close(self) -> None:
        """Cancel the requests that have not started."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def bls_call(stages: Iterable[Stage], prefix: str, timeout: float = 60, backend: Any = None) -> BlsCall:
    """Return a Call on the models of the server this process belongs to."""
    return BlsCall(stages, prefix, timeout, backend)
