"""Segments of requests: they go through the networks in rounds, and travel between host steps one after another.

A round has the next segment of every request, so a long request costs what its parts cost, and the cost of a second of
speech does not depend on how long the whole is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from tritone.request.batch import row
from tritone.stage import Arrays

Given = TypeVar("Given")
Result = TypeVar("Result")


def in_rounds(
    requests: Sequence[Sequence[Given]], run: Callable[[list[Given]], Sequence[Result]]
) -> list[list[Result]]:
    """Return the results of each request's segments; `run` gets one segment of each request that has one left."""
    results: list[list[Result]] = [[] for _ in requests]
    for index in range(max(map(len, requests), default=0)):
        owners = [owner for owner, segments in enumerate(requests) if index < len(segments)]
        for owner, result in zip(owners, run([requests[owner][index] for owner in owners]), strict=True):
            results[owner].append(result)
    return results


def joined(name: str, lengths: str, segments: Sequence[np.ndarray]) -> Arrays:
    """Return the segments one after another along their last axis, and how long each is."""
    return {
        name: np.ascontiguousarray(np.concatenate(segments, axis=-1)),
        lengths: row([segment.shape[-1] for segment in segments]),
    }


def parts(request: Arrays, name: str, lengths: str) -> list[np.ndarray]:
    """Return the segments of an array in which they lie one after another."""
    return np.split(request[name], np.cumsum(request[lengths][0])[:-1], axis=-1)
