"""The functions a family and its engines hand to each other: a stage's call, a host step's work, the order of calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from tritone.errors import Cancelled

Arrays = dict[str, np.ndarray]
Gone = Callable[[], bool]
"""Tells whether the client of a request has left."""


class Call(Protocol):
    """Runs a stage: on torch in tests, onnxruntime offline, other models of the same server in Triton."""

    def __call__(self, stage_name: str, **arrays: np.ndarray) -> Arrays:
        """Return the stage's outputs by name."""
        ...


class Run(Protocol):
    """The work of a host step; `llm` is what the family's own `lm` opens, a `SpeechLm` or a `RowSource`."""

    def __call__(
        self, call: Call, llm: Any, requests: list[Arrays], cancelled: Sequence[Gone] = ..., /
    ) -> Sequence[Arrays | Exception]:
        """Return one result per request; a result that is an exception answers that request alone.

        Args:
            cancelled: for each request, tells whether its client has left; none at all means that nobody leaves.
        """
        ...


class Synthesize(Protocol):
    """The streaming order of calls of a family."""

    def __call__(
        self, call: Call, llm: Any, request: Arrays, cancelled: Callable[[], bool] = ..., /
    ) -> Iterator[np.ndarray]:
        """Yield waveform chunks; ends soon after `cancelled()` is true."""
        ...


class SynthesizePieces(Protocol):
    """The streaming order of calls for a text that arrives in pieces."""

    def __call__(
        self, call: Call, llm: Any, request: Arrays, pieces: Iterable[str], cancelled: Callable[[], bool] = ..., /
    ) -> Iterator[np.ndarray]:
        """Yield waveform chunks while pieces still arrive; waiting for a piece blocks."""
        ...


def each(cancelled: Sequence[Gone], count: int) -> Sequence[Gone]:
    """Return a function for each of `count` requests: those given, or `never` for all if none are."""
    return cancelled or [never] * count


def never() -> bool:
    """Return False: the cancellation check of a request that nothing can cancel."""
    return False


def stoppable(call: Call, cancelled: Gone) -> Call:
    """Return the call of one request, which raises Cancelled instead of starting a stage once its client has left."""

    def checked(stage_name: str, **arrays: np.ndarray) -> Arrays:
        if cancelled():
            raise Cancelled("cancelled")
        return call(stage_name, **arrays)

    return checked


class FilesRead(NamedTuple):
    """The files of a checkpoint that a family reads, as paths below its folder.

    Args:
        answers: those that the answers depend on, which make up the checkpoint's identity.
        voices: the registry of voices, which no artifact depends on; a server reads it when it starts.
    """

    answers: tuple[str, ...]
    voices: tuple[str, ...] = ()
