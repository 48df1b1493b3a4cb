"""The check of a request against the declared inputs of its host step, and of an answer's numbers, for every family.

Entries check what clients send themselves, with better messages; here, the tensors between the steps are checked, so
that a step which is called alone refuses what no earlier step would have sent.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from tritone.audio.level import NOT_FINITE, REMEDY, answer_problem
from tritone.engines.inputs import tensor_text
from tritone.errors import InvalidRequest, TritoneError
from tritone.stage import Arrays, Axis, Scaled, Tensor, size


def request_problem(inputs: Sequence[Tensor], request: Arrays, trusted: Collection[str] = ()) -> InvalidRequest | None:
    """Return the error that names the first input which is missing, not of the declared type or size, or out of range.

    Args:
        trusted: names of inputs that the step checks itself.
    """
    sizes: dict[str, int] = {}
    try:
        for tensor in inputs:
            if tensor.name in request:
                if tensor.name not in trusted:
                    _check_shape(tensor, request[tensor.name], sizes)
            elif not tensor.optional and tensor.name not in trusted:
                raise InvalidRequest(tensor.name, "is missing")
        for tensor in inputs:
            if tensor.name in request and tensor.name not in trusted:
                _check_values(tensor, request[tensor.name], sizes)
    except InvalidRequest as error:
        return error
    return None


def checked_answer(answer: Any, sounds: Collection[str] = ()) -> Any:
    """Return an answer, or an error in place of one whose numbers are not finite or whose sound cannot be speech.

    Args:
        sounds: names of the outputs that are whole waveforms, which may be neither silent nor beyond full scale.
    """
    if isinstance(answer, Mapping):
        for name, array in answer.items():
            problem = answer_problem(array) if name in sounds else NOT_FINITE * (not finite(array))
            if problem:
                return TritoneError(f"the answer's {name} {problem}, so it is not sent; {REMEDY}")
    return answer


def finite(array: Any) -> bool:
    """Return whether an array has no NaN and no infinite number."""
    return not isinstance(array, np.ndarray) or array.dtype.kind != "f" or bool(np.isfinite(array).all())


def _check_shape(tensor: Tensor, array: np.ndarray, sizes: dict[str, int]) -> None:
    """Raise InvalidRequest unless an array has the tensor's type and shape; sizes of axes are noted in `sizes`."""
    expected = np.dtype(object) if tensor.dtype == "bytes" else np.dtype(tensor.dtype)
    if array.dtype != expected or array.ndim != len(tensor.shape):
        raise InvalidRequest(tensor.name, f"is {array.dtype} {list(array.shape)}; the step takes {tensor_text(tensor)}")
    for dim, actual in zip(tensor.shape, array.shape, strict=True):
        if isinstance(dim, int):
            if actual != dim:
                raise InvalidRequest(tensor.name, f"has {actual} where the step takes {tensor_text(tensor)}")
            continue
        axis: Axis = dim.axis if isinstance(dim, Scaled) else dim
        low, high = (size(dim, {axis.name: end}) for end in (axis.lo, axis.hi))
        if not low <= actual <= high:
            raise InvalidRequest(tensor.name, f"has {actual} {axis.name}; the step takes {low} to {high}")
        if isinstance(dim, Scaled):
            actual, rest = divmod(actual - dim.offset, dim.factor)
            if rest:
                raise InvalidRequest(tensor.name, f"has a size that is no multiple of {dim.factor}")
        known = sizes.setdefault(axis.name, actual)
        if known != actual:
            raise InvalidRequest(tensor.name, f"has {actual} {axis.name}, but another input has {known}")


def _check_values(tensor: Tensor, array: np.ndarray, sizes: Mapping[str, int]) -> None:
    """Raise InvalidRequest for numbers that are not finite or out of range, or parts that do not add up."""
    if not finite(array):
        raise InvalidRequest(tensor.name, "has NaN or infinite numbers")
    if tensor.allowed is not None and array.size:
        low, high = tensor.allowed
        least, most = array.min(), array.max()
        if least < low or most > high:
            raise InvalidRequest(
                tensor.name, f"has {least if least < low else most:g}; the range is {low:g} to {high:g}"
            )
    if isinstance(tensor.length_of, Axis) and tensor.length_of.name in sizes:
        whole = sizes[tensor.length_of.name]
        outside = array.size and (array.min() < 0 or array.max() > whole)
        if outside or int(array.sum()) != whole:
            raise InvalidRequest(tensor.name, f"has lengths that are not the parts of {whole} {tensor.length_of.name}")
