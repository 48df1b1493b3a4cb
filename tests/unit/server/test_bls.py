"""Stages asked over BLS, on a stand-in for Triton's Python backend; the real one runs in tests/server."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tritone.calls import stoppable
from tritone.errors import Cancelled, InvalidRequest
from tritone.server.bls import BlsCall, StageFailed, batch_axis, bls_call
from tritone.stage import Arrays, Axis, Stage, Tensor

BATCH, FRAMES = Axis("batch", 1, 1, 8), Axis("frames", 0, 10, 50)
RAGGED = Stage(
    "ragged",
    (Tensor("mel", "float32", (BATCH, 2, FRAMES)), Tensor("mel_len", "int32", (BATCH,), length_of=FRAMES)),
    (Tensor("energy", "float32", (BATCH, FRAMES)),),
    None,
)
CHUNKED = Stage(
    "chunked",
    (Tensor("x", "float32", (BATCH, FRAMES)), Tensor("chunk_size", "int64", (1,))),
    (Tensor("y", "float32", (BATCH, FRAMES)),),
    None,
)


class FakeTensor:
    def __init__(self, name: str, array: np.ndarray) -> None:
        self._name, self.array = name, array

    def name(self) -> str:
        return self._name

    def as_numpy(self) -> np.ndarray:
        return self.array


def backend(answer: Callable[[Any], Arrays | str]) -> Any:
    """Return a module like `triton_python_backend_utils` whose requests are answered by the function.

    A text is an error.
    """

    class Request(SimpleNamespace):
        def exec(self) -> Any:
            result = answer(self)
            outputs = [] if isinstance(result, str) else [FakeTensor(*item) for item in result.items()]
            return SimpleNamespace(
                has_error=lambda: isinstance(result, str),
                error=lambda: SimpleNamespace(message=lambda: result),
                output_tensors=lambda: outputs,
            )

    return SimpleNamespace(
        InferenceRequest=Request, Tensor=FakeTensor, PreferredMemory=lambda *place: place, TRITONSERVER_MEMORY_CPU="cpu"
    )


def call(answer: Callable[[Any], Arrays | str], **options: Any) -> BlsCall:
    return bls_call([RAGGED, CHUNKED], "toy_stage_", backend=backend(answer), **options)


def mel(rows: int = 3) -> Arrays:
    return {"mel": np.ones((rows, 2, 5), np.float32), "mel_len": np.full(rows, 5, np.int32)}


def test_only_stages_whose_tensors_all_begin_with_the_batch_are_batched_by_triton() -> None:
    assert batch_axis(RAGGED) == BATCH
    assert batch_axis(CHUNKED) is None


def test_request_goes_to_the_stages_model_with_its_tensors_in_cpu_memory() -> None:
    seen: list[Any] = []

    def answer(request: Any) -> Arrays:
        seen.append(request)
        return {"energy": np.full((3, 5), 2, np.float32)}

    result = call(answer, timeout=7)("ragged", **mel())
    request = seen[0]
    assert np.array_equal(result["energy"], np.full((3, 5), 2, np.float32))
    assert (request.model_name, request.requested_output_names) == ("toy_stage_ragged", ["energy"])
    assert (request.preferred_memory, request.timeout) == (("cpu", 0), 7_000_000)
    assert {tensor.name(): tensor.array.shape for tensor in request.inputs} == {"mel": (3, 2, 5), "mel_len": (3, 1)}


def test_lengths_keep_their_shape_where_triton_forms_no_batches() -> None:
    shapes: dict[str, tuple[int, ...]] = {}

    def answer(request: Any) -> Arrays:
        shapes.update({tensor.name(): tensor.array.shape for tensor in request.inputs})
        return {"y": np.zeros((2, 0), np.float32)}

    # A first chunk's state has no frames at all.
    call(answer)("chunked", x=np.zeros((2, 0), np.float32), chunk_size=np.array([5], np.int64))
    assert shapes == {"x": (2, 0), "chunk_size": (1,)}


def test_answers_are_copies_because_their_memory_goes_back_to_the_server() -> None:
    memory = np.zeros((3, 5), np.float32)
    result = call(lambda _request: {"energy": memory})("ragged", **mel())
    memory[:] = 9
    assert not result["energy"].any()


def test_error_of_a_stage_is_told_with_its_name() -> None:
    with pytest.raises(StageFailed, match=r"stage ragged \(model toy_stage_ragged\) failed: out of memory"):
        call(lambda _request: "out of memory")("ragged", **mel())


def test_stage_that_cannot_be_asked_is_named() -> None:
    def answer(_request: Any) -> Arrays:
        raise RuntimeError("shared memory is full")

    with pytest.raises(StageFailed, match=r"stage ragged \(.*\) could not be called: shared memory is full"):
        call(answer)("ragged", **mel())


def test_stage_that_hangs_is_named_after_the_time_limit() -> None:
    release, answered = threading.Event(), threading.Event()

    def answer(_request: Any) -> Arrays:
        release.wait(60)
        answered.set()
        return {}

    asked = call(answer, timeout=0.1)
    with pytest.raises(StageFailed, match=r"stage ragged \(.*\) did not answer within 0\.1 s; its queue is too long"):
        asked("ragged", **mel())
    assert not answered.is_set(), "the error does not wait for the answer"
    release.set()
    asked.close()


def test_wrong_array_is_named_before_anything_is_sent() -> None:
    asked = call(lambda _request: pytest.fail("was sent"))
    with pytest.raises(InvalidRequest, match=r"mel: stage ragged takes float32 \[batch, 2, frames\], got"):
        asked("ragged", mel=np.zeros((3, 3, 5), np.float32), mel_len=np.zeros(3, np.int32))
    with pytest.raises(KeyError, match="there is no stage 'other'; there are ragged, chunked"):
        asked("other")


def test_no_further_stage_is_asked_once_the_client_has_gone() -> None:
    asked: list[str] = []

    def answer(request: Any) -> Arrays:
        asked.append(request.model_name)
        return {"energy": np.zeros((3, 5), np.float32)}

    checked = stoppable(call(answer), lambda: len(asked) == 2)
    checked("ragged", **mel())
    checked("ragged", **mel())
    with pytest.raises(Cancelled):
        checked("ragged", **mel())
    assert len(asked) == 2
