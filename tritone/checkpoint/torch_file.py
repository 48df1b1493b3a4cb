"""Small files of `torch.save` read without torch: plain containers, strings, numbers, tensors, parameters and arrays.

A server process can then read its voices without importing a training framework. The unpickler knows the few names that
such a file consists of and refuses every other, so nothing in the file can run.
"""

from __future__ import annotations

import collections
import io
import math
import pickle
import shlex
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from tritone.checkpoint import pickled_array
from tritone.checkpoint.archive import allowance, check_archive, check_pickle
from tritone.errors import CheckpointError

_STORAGES: dict[str, Any] = {
    "FloatStorage": np.float32,
    "DoubleStorage": np.float64,
    "HalfStorage": np.float16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
    "BFloat16Storage": np.dtype([("bfloat16", np.uint16)]),
}
OLDER = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""The beginning of a file in torch's format before version 1.6."""


def read_torch_file(path: Path) -> Any:
    """Return the object in the file, its tensors as arrays of their own dtype.

    Tensors of bfloat16 become float32. Raises CheckpointError when the file is not torch's zip format, is damaged,
    holds anything but data, or would take much more memory than it has bytes.
    """
    _refuse_older(path)
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            if len(names) != 1:
                raise CheckpointError(f"{path} is a zip archive but not one of torch.save.")
            check_archive(archive, path)
            content = archive.read(names[0])
            check_pickle(io.BytesIO(content), path)
            loaded = _Reader(content, archive, names[0].removesuffix("data.pkl"), allowance(path)).load()
            return pickled_array.finished(loaded)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} does not exist.") from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path} holds more than data and was not loaded: {error}.") from error
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(f"{path} is truncated or not a file of torch.save ({error}).") from error


class _Reader(pickle.Unpickler):
    """Unpickles data alone; its tensors together may take `left` bytes."""

    def __init__(self, content: bytes, archive: zipfile.ZipFile, root: str, left: int) -> None:
        super().__init__(io.BytesIO(content))
        self._archive, self._root, self._left = archive, root, left
        self._records: dict[str, bytes] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return self.rebuild
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return _parameter
        if (module, name) == ("_codecs", "encode"):
            return self.encode
        if module.split(".")[0] == "numpy" and name in pickled_array.NAMES:
            return pickled_array.NAMES[name]
        if module == "torch" and name in _STORAGES:
            return name
        raise pickle.UnpicklingError(f"it names {module}.{name}")

    def persistent_load(self, pid: Any) -> np.ndarray:
        kind, name, key, _, count = pid
        if kind != "storage" or name not in _STORAGES or not str(key).isalnum():
            raise pickle.UnpicklingError(f"it has an unknown storage {pid!r}")
        if key not in self._records:
            self._records[key] = self._archive.read(f"{self._root}data/{key}")
        return np.frombuffer(self._records[key], _STORAGES[name], count)

    def rebuild(self, storage: np.ndarray, offset: int, size: tuple[int, ...], *further: Any) -> np.ndarray:
        """Return a tensor's array, after counting its bytes."""
        self._left -= math.prod(size) * storage.itemsize
        if min(size, default=0) >= 0 and self._left < 0:
            raise pickle.UnpicklingError(f"it has a tensor of shape {list(size)}, which is much larger than the file")
        array = _rebuild(storage, offset, size, *further)
        if array.dtype.names:  # a bfloat16 is the upper half of a float32
            return (array["bfloat16"].astype(np.uint32) << 16).view(np.float32)
        return array

    def encode(self, text: Any, *_: Any) -> bytes:
        """Return the bytes that a pickle of protocol 2 writes as text, after counting them."""
        self._left -= len(text)
        if not isinstance(text, str) or self._left < 0:
            raise pickle.UnpicklingError("it has arrays that are much larger than the file")
        return text.encode("latin-1")


def _parameter(data: Any, *_: Any) -> np.ndarray:
    """Return the array of a tensor that was saved as a parameter."""
    if not isinstance(data, np.ndarray):
        raise pickle.UnpicklingError("it has a parameter without a tensor")
    return data


def _refuse_older(path: Path) -> None:
    """Raise CheckpointError for a file in torch's older format, with the command that writes it anew."""
    if not path.is_file():
        return
    with open(path, "rb") as file:
        older = file.read(len(OLDER)) == OLDER
    if older:
        program = f"import torch; p = {str(path)!r}; torch.save(torch.load(p, weights_only=True), p)"
        raise CheckpointError(
            f"{path} is in torch's format before version 1.6; write it anew: python -c {shlex.quote(program)}"
        )


def _rebuild(storage: np.ndarray, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> np.ndarray:
    """Return a tensor's array, copied out of its storage after checking that it lies inside."""
    if min((offset, *size, *stride)) < 0 or len(size) != len(stride):
        raise pickle.UnpicklingError("it has a tensor of impossible shape")
    if 0 in size:
        return np.zeros(size, storage.dtype)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if last >= len(storage):
        raise pickle.UnpicklingError("it has a tensor larger than its storage")
    strides = [step * storage.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(storage[offset:], size, strides).copy()
