"""Segments of requests: they go through the networks in rounds, and travel between host steps one after another.

A round has the next segment of every request, so a long request costs what its parts cost, and the cost of a second of
speech does not depend on how long the whole is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from tritone.calls import Gone, each
from tritone.errors import Cancelled
from tritone.request.batch import row
from tritone.stage import Arrays

Given = TypeVar("Given")
Result = TypeVar("Result")


def in_rounds(
    requests: Sequence[Sequence[Given]],
    run: Callable[[list[Given]], Sequence[Result]],
    join: Callable[[list[Result]], Arrays],
    left: Sequence[Gone] = (),
) -> list[Arrays | Cancelled]:
    """Return each request's answer, joined from the results of its segments, or Cancelled.

    Args:
        run: gets one segment of each request that has one left, and whose client has not left.
        left: for each request, tells whether its client has left.
    """
    results: list[list[Result]] = [[] for _ in requests]
    left = each(left, len(requests))
    for index in range(max(map(len, requests), default=0)):
        owners = [owner for owner, segments in enumerate(requests) if index < len(segments) and not left[owner]()]
        rows = [requests[owner][index] for owner in owners]
        for owner, result in zip(owners, run(rows) if rows else (), strict=True):
            results[owner].append(result)
    return [
        join(found) if len(found) == len(segments) else Cancelled("cancelled")
        for found, segments in zip(results, requests, strict=True)
    ]


def joined(name: str, lengths: str, segments: Sequence[np.ndarray]) -> Arrays:
    """Return the segments one after another along their last axis, and how long each is."""
    return {
        name: np.ascontiguousarray(np.concatenate(segments, axis=-1)),
        lengths: row([segment.shape[-1] for segment in segments]),
    }


def parts(request: Arrays, name: str, lengths: str) -> list[np.ndarray]:
    """Return the segments of an array in which they lie one after another."""
    return np.split(request[name], np.cumsum(request[lengths][0])[:-1], axis=-1)
