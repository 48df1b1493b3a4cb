"""NumPy arrays and numbers inside a pickle, rebuilt from their bytes by functions of this module instead of NumPy's.

An array in a pickle is made empty and then given its state; both are checked. Arrays of Python objects are refused.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

_DTYPES = {name: np.dtype(name) for name in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1")}


DEPTH = 32
"""Most containers inside each other."""


class PickledDtype:
    """A dtype of numbers; its state says the order of the bytes, the smallest first."""

    def __init__(self, name: str) -> None:
        if name not in _DTYPES:
            raise pickle.UnpicklingError(f"it has an array of dtype {name!r:.40}; there are numbers only")
        self.dtype = _DTYPES[name]

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] == ">":
            raise pickle.UnpicklingError("it has an array whose numbers begin with their largest byte")


class PickledArray:
    """An array whose bytes come with its state."""

    def __init__(self) -> None:
        self.array = np.zeros(0, np.float32)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, content = state
        if not isinstance(dtype, PickledDtype) or not isinstance(content, bytes) or not _is_shape(shape):
            raise pickle.UnpicklingError("it has an array that is not made of numbers")
        if math.prod(shape) * dtype.dtype.itemsize != len(content):
            raise pickle.UnpicklingError(f"it has an array of shape {list(shape)} with {len(content)} bytes")
        # The bytes are not copied: many arrays may have the same.
        self.array = np.frombuffer(content, dtype.dtype).reshape(shape, order="F" if fortran else "C")


def _is_shape(shape: Any) -> bool:
    return isinstance(shape, tuple) and len(shape) <= 32 and all(type(n) is int and n >= 0 for n in shape)


def _dtype(name: Any, *_: Any) -> PickledDtype:
    return PickledDtype(name if isinstance(name, str) else "")


def _array(*_: Any) -> PickledArray:
    return PickledArray()


def _scalar(dtype: Any, content: Any = b"") -> Any:
    array = PickledArray()
    array.__setstate__((1, (), dtype, False, content))
    return array.array.item()


class _Kind:
    """Stands for `numpy.ndarray`, which is named and never called."""


NAMES: Mapping[str, Callable[..., Any]] = {
    "_reconstruct": _array,
    "ndarray": _Kind,
    "dtype": _dtype,
    "scalar": _scalar,
}
"""The functions and classes that the pickle of an array names, of the package numpy."""


def finished(value: Any) -> Any:
    """Return a value with every pickled array in its dicts, lists and tuples replaced by the NumPy array."""
    done: dict[int, Any] = {}

    def replaced(item: Any, depth: int) -> Any:
        if isinstance(item, PickledArray):
            return item.array
        if not isinstance(item, dict | list | tuple):
            return item
        if depth > DEPTH:
            raise pickle.UnpicklingError(f"it has more than {DEPTH} containers inside each other")
        if id(item) not in done:
            if isinstance(item, dict):
                done[id(item)] = {key: replaced(inner, depth + 1) for key, inner in item.items()}
            else:
                done[id(item)] = [replaced(inner, depth + 1) for inner in item]
        return done[id(item)]

    return replaced(value, 0)
