"""Weights on disk: read as data only, loaded strictly, written atomically.

Nothing in a checkpoint is ever executed: `torch.load(weights_only=True)` refuses pickled code, and every problem is one
`CheckpointError` that says which file, what was expected and what was found.
"""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import torch
from torch import Tensor, nn

from tritone.build.files import write_atomic
from tritone.checkpoint.archive import allowance, check_torch_file
from tritone.checkpoint.beside import SAFE, present
from tritone.checkpoint.notes import note
from tritone.checkpoint.unwrap import ANY, Sought, unwrap
from tritone.errors import CheckpointError, TritoneError
from tritone.nn.weight_norm import older_layout

_LISTED = 10
Module = TypeVar("Module", bound=nn.Module)


def read_state(path: Path, widen: bool = True, network: Sought = ANY) -> dict[str, Tensor]:
    """Return the state_dict stored at `path`, key -> tensor on the CPU, half precision widened to float32 if `widen`.

    What trainers save around the weights is taken off (`tritone.checkpoint.unwrap`). A file of safetensors with the
    same stem may lie in its place, or beside it with equal weights.

    Raises CheckpointError for a file that is missing, truncated, not torch's, not a dict of tensors, that holds
    pickled code, or that has another one beside it with other weights.
    """
    states = {
        found: unwrap(read_safetensors(found) if found.suffix == SAFE else read_data(found), path, network)
        for found in present(path) or [path]
    }
    (first, state), *others = states.items()
    for other, second in others:
        differing = difference(state, second)
        if differing:
            raise CheckpointError(f"{first} and {other.name} beside it hold different weights: {differing}; keep one.")
        note(f"{first} and {other.name} beside it hold the same weights")
    return {key: value.float() if widen and value.is_floating_point() else value for key, value in state.items()}


def difference(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> str:
    """Return the first key that only one of two states has, or whose values differ, in words; empty if they agree."""
    if one.keys() != other.keys():
        return f"only one has {min(one.keys() ^ other.keys())}"
    pairs = ((key, value, other[key]) for key, value in one.items())
    differing = (key for key, value, second in pairs if value.shape != second.shape or bool((value != second).any()))
    return next((f"{key} differs" for key in differing), "")


def read_data(path: Path) -> Any:
    """Return the plain data and tensors (on the CPU) that torch.save wrote to `path`; raises as `read_state`.

    Raises CheckpointError, too, for a file that would take much more memory than it has bytes.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist; {_contents(path.parent)}.")
    check_torch_file(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "weights_only" in str(error).lower() and "global" in str(error).lower():
            raise CheckpointError(
                f"{path} contains pickled code or objects{_named(error)}, which are never run or loaded; a checkpoint "
                f"is a plain state_dict of tensors, saved with torch.save(module.state_dict(), path)."
            ) from error
        raise _unreadable(path) from error
    except Exception as error:
        raise _unreadable(path) from error
    _check_tensors(content, path)
    return content


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors in a file of safetensors, in their own dtypes.

    CheckpointError for a damaged or foreign file.
    """
    from safetensors.torch import load_file

    try:
        state: dict[str, Tensor] = load_file(path)
    except Exception as error:
        raise CheckpointError(f"{path} is truncated or not a file of safetensors: {error}") from error
    return state


def built(make: Callable[[], Module], state: Mapping[str, Tensor], path: Path | str) -> Module:
    """Return the module that `make` makes, with the weights of `state`; errors as `load_strict`.

    The module is first made without memory and compared with the state, so that settings of another size, which may
    ask for any amount of memory, are refused before memory is taken.
    """
    try:
        with torch.device("meta"):
            sketch = make()
    except TritoneError:
        raise
    except Exception as error:
        raise CheckpointError(f"{path}: no network can be made of the checkpoint's settings: {error}") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns that nothing is copied
        load_strict(sketch, state, path)
    module = make()
    load_strict(module, state, path)
    return module


def load_strict(module: nn.Module, state: Mapping[str, Tensor], path: Path | str, assign: bool = False) -> None:
    """Copy `state` into `module`; one CheckpointError lists what is missing, left over or of another shape.

    With `assign` nothing is copied: the tensors become the module's, which may have been made on the device "meta".

    Keys may also be in a layout that the module's own load hooks translate (both weight-norm layouts, for instance).
    """
    mismatched: list[str] = []
    own = module.state_dict()
    known = {**own, **older_layout(own)}
    for key, value in state.items():
        if key in known and known[key].shape != value.shape:
            mismatched.append(f"{key} is {list(value.shape)} instead of {list(known[key].shape)}")
    if mismatched:
        raise CheckpointError(f"{path} does not fit its configuration: {_listed('wrong shapes', mismatched)}.")
    try:
        result = module.load_state_dict(dict(state), strict=False, assign=assign)
    except RuntimeError as error:
        raise CheckpointError(f"{path} does not fit its configuration: {error}") from error
    missing, unexpected = list(result.missing_keys), list(result.unexpected_keys)
    if missing or unexpected:
        foreign = " It looks like the file of another model." if len(missing) > len(own) // 2 else ""
        parts = [_listed("missing keys", missing), _listed("unexpected keys", unexpected)]
        raise CheckpointError(f"{path} does not fit its network: {'; '.join(part for part in parts if part)}.{foreign}")


def write_state(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write a state_dict that `read_state` (and any `torch.load(weights_only=True)`) reads back."""
    tensors = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    write_atomic(path, lambda file: torch.save(tensors, file))


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""

    def write(file: BinaryIO) -> None:
        file.write(text.encode("utf-8"))

    write_atomic(path, write)


def _check_tensors(content: Any, path: Path) -> None:
    """Raise CheckpointError unless every tensor is an ordinary one, and all of them are about as large as the file."""
    left, seen, waiting = allowance(path), set[int](), [content]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Tensor):
            if value.layout != torch.strided or value.is_quantized or value.device.type != "cpu":
                raise CheckpointError(f"{path} has a tensor that is sparse, quantized or without data")
            left -= value.numel() * value.element_size()
            if left < 0:
                raise CheckpointError(
                    f"{path} has a tensor of shape {list(value.shape)}; its tensors are much larger than its "
                    f"{path.stat().st_size} bytes"
                )
        elif isinstance(value, Mapping | list | tuple | set) and id(value) not in seen:
            seen.add(id(value))
            waiting += [*value, *value.values()] if isinstance(value, Mapping) else value


def _named(error: Exception) -> str:
    """Return the name of the object that torch refuses, in brackets; empty if its message has none."""
    match = re.search(r"GLOBAL ([\w.]+)", str(error))
    return f" ({match[1]})" if match else ""


def _contents(directory: Path) -> str:
    """Return a sentence that lists the files of a directory."""
    if not directory.is_dir():
        return f"the directory {directory} does not exist"
    names = sorted(entry.name for entry in directory.iterdir())
    return f"{directory} has {', '.join(names) if names else 'no files'}"


def _listed(what: str, names: list[str]) -> str:
    """Return the first few names and how many there are; empty when there are none."""
    if not names:
        return ""
    shown = ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")
    return f"{len(names)} {what}: {shown}"


def _unreadable(path: Path) -> CheckpointError:
    size = path.stat().st_size
    with open(path, "rb") as file:
        start = file.read(40)
    hint = ""
    if start.startswith(b"version https://git-lfs"):
        hint = " It is a Git LFS pointer: fetch the real file with `git lfs pull`."
    return CheckpointError(
        f"{path} ({size} bytes) is not a complete file of torch.save: it is truncated or of another kind.{hint} "
        f"Copy or download it again."
    )
