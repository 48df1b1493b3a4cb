"""A stage's declaration in words, and the check of arrays against it that every engine makes before it runs.

A wrong array is named here, before an engine sees it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from tritone.errors import InvalidRequest
from tritone.stage import Axis, Dim, Scaled, Stage, Tensor


def dim_text(dim: Dim) -> str:
    """Return a dimension in words: "80", "frames", "480*frames", "2*frames+3".

    Also the symbolic name in exported files.
    """
    if isinstance(dim, int):
        return str(dim)
    if isinstance(dim, Axis):
        return dim.name
    factor = f"{dim.factor}*" if dim.factor != 1 else ""
    return f"{factor}{dim.axis.name}" + (f"{dim.offset:+d}" if dim.offset else "")


def tensor_text(tensor: Tensor) -> str:
    """Return a tensor's declaration in words: "float32 [batch, 80, frames]"."""
    return f"{tensor.dtype} [{', '.join(map(dim_text, tensor.shape))}]"


def check_inputs(stage: Stage, arrays: Mapping[str, np.ndarray]) -> None:
    """Raise InvalidRequest naming the first input that is missing, unknown, or of another dtype, rank or size."""
    declared = [tensor.name for tensor in stage.inputs]
    for name in declared:
        if name not in arrays:
            raise InvalidRequest(name, f"stage {stage.name} needs it; given {listed(arrays)} of {listed(declared)}")
    for name in arrays:
        if name not in declared:
            raise InvalidRequest(name, f"stage {stage.name} has no such input; its inputs are {listed(declared)}")
    sizes: dict[str, tuple[int, str]] = {}
    for tensor in stage.inputs:
        array = arrays[tensor.name]
        problem = f"stage {stage.name} takes {tensor_text(tensor)}, got {array.dtype} {list(array.shape)}"
        if str(array.dtype) != tensor.dtype or array.ndim != len(tensor.shape):
            raise InvalidRequest(tensor.name, problem)
        for dim, actual in zip(tensor.shape, array.shape, strict=True):
            if isinstance(dim, int):
                if actual != dim:
                    raise InvalidRequest(tensor.name, problem)
                continue
            axis, factor, offset = (dim.axis, dim.factor, dim.offset) if isinstance(dim, Scaled) else (dim, 1, 0)
            value, rest = divmod(actual - offset, factor)
            known, source = sizes.setdefault(axis.name, (value, tensor.name))
            if rest or value != known:
                raise InvalidRequest(tensor.name, f"{problem}; {axis.name} is {known} by input {source}")


def known_stage(by_name: Mapping[str, Stage], name: str) -> Stage:
    """Return the stage of that name; KeyError lists those that exist."""
    if name not in by_name:
        raise KeyError(f"there is no stage {name!r}; there are {listed(by_name)}")
    return by_name[name]


def listed(names: Iterable[str]) -> str:
    """Return names joined for a message; "nothing" when there are none."""
    return ", ".join(names) or "nothing"
