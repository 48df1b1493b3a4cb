"""Padding of rows to one batch, and errors that answer one request of several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tritone.errors import TritoneError


def answer(run: Any, *arguments: Any) -> Any:
    """Return the result of `run`, or the error that answers this request alone."""
    try:
        return run(*arguments)
    except TritoneError as error:
        return error


def row(values: Sequence[int] | np.ndarray) -> np.ndarray:
    """Return the values as int64 `[1, count]`."""
    return np.array([values], np.int64).reshape(1, -1)


def pad(array: np.ndarray, length: int) -> np.ndarray:
    """Return the array with zeros appended along its last axis up to `length`."""
    return np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, length - array.shape[-1])])


def stack(arrays: list[np.ndarray], least: int = 0) -> np.ndarray:
    """Return rows joined into a batch, padded with zeros along the last axis, to `least` or more."""
    longest = max(least, *(array.shape[-1] for array in arrays))
    return np.concatenate([pad(array, longest) for array in arrays])
