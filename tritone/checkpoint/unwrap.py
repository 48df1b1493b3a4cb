"""Weights taken out of what trainers save around them: counters, wrappers, other networks, prefixes of their keys.

Plain state_dicts pass unchanged. What is left out is named in one line of the log; what is in the way, in an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from tritone.checkpoint.notes import note
from tritone.errors import CheckpointError

_LISTED = 6
_DEPTH = 6
"""Most wrappers around each other."""

HOLDERS = ("state_dict", "model_state_dict", "model", "module", "model_state", "net", "network", "weights", "params")
"""Entries under which trainers save the weights, beside the state of the training."""
AVERAGED = (
    *("ema", "ema_state_dict", "state_dict_ema", "model_ema", "ema_model", "ema_network", "params_ema", "average"),
    "averaged_model",
)
"""Entries and beginnings of keys of weights averaged over the training; taken where there are no others."""
OTHERS = (
    *("discriminator", "discriminators", "disc", "net_d", "net_dur_disc", "net_wd", "mpd", "msd", "mrd", "mssd"),
    *("criterion", "loss", "loss_fn", "teacher"),
)
"""Entries and beginnings of keys of networks that only training has."""
TRAINING = ("optimizer", "optimiser", "optim", "scheduler", "lr_sched", "amp", "scaler", "grad_scaler", "rng", "loops")
"""Beginnings of the names of entries that are the state of a training, whatever they hold."""
COUNTERS = frozenset(
    ("epoch", "step", "steps", "global_step", "iteration", "iter", "n_averaged", "learning_rate", "lr", "best_loss")
)
"""Names of single numbers that may also be saved as tensors among the weights."""
TRANSPARENT = frozenset(("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"))
"""Parts of keys that DDP, torch.compile and FSDP put in, at any place; no network here has one of that name."""


@dataclass(frozen=True)
class Sought:
    """The network that a file is read for.

    Args:
        roots: the first parts of its keys; empty if they are not known.
        names: under which trainers save it beside other networks, as an entry or as the beginning of its keys.
    """

    roots: frozenset[str] = frozenset()
    names: tuple[str, ...] = ()


ANY = Sought()


def sought(roots: str, *names: str) -> Sought:
    """Return the description of a network with the first parts of its keys, separated by spaces, and its names."""
    return Sought(frozenset(roots.split()), names)


def unwrap(content: Any, path: Path, network: Sought = ANY) -> dict[str, Tensor]:
    """Return the state_dict of a network in what torch.save wrote: key -> tensor, under the network's own keys.

    Raises CheckpointError that names what is in the way: an entry that is no tensor, several networks, or none.
    """
    left: list[str] = []
    place: list[str] = []
    while not _holds_weights(content):
        key = _holder(content, path, network, left)
        place.append(key)
        content = content[key]
    state = _unprefixed(_tensors(content, path, left), path, network, left)
    if place or left:
        taken = f"the weights under {'/'.join(place)!r} are used" if place else "its weights are used"
        averaged = ", an average over the training" * any(key in AVERAGED for key in place)
        omitted = f"; left out: {_listed(left)}" if left else ""
        note(f"{path}: {taken}{averaged}{omitted}")
    return state


def _holds_weights(content: Any) -> bool:
    """Return whether some of the values are tensors other than counters."""
    return isinstance(content, Mapping) and any(
        isinstance(value, Tensor) and not _is_counter(key, value) for key, value in content.items()
    )


def _is_counter(key: Any, value: Any) -> bool:
    return isinstance(value, Tensor) and value.numel() == 1 and str(key).lower() in COUNTERS


def _of_training(key: Any) -> bool:
    return str(key).lower().startswith(TRAINING)


def _reaches(content: Any, depth: int = _DEPTH) -> bool:
    """Return whether weights lie in a value or in the entries inside it."""
    if not isinstance(content, Mapping) or depth < 0:
        return False
    inner = [value for key, value in content.items() if isinstance(value, Mapping) and not _of_training(key)]
    return _holds_weights(content) or any(_reaches(value, depth - 1) for value in inner)


def _holder(content: Any, path: Path, network: Sought, left: list[str]) -> str:
    """Return the entry that has the weights; CheckpointError if none has, or if it is not clear which."""
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__}; expected a state_dict, key -> tensor.")
    found = [
        key for key, value in content.items() if isinstance(key, str) and not _of_training(key) and _reaches(value)
    ]
    for names in (network.names, HOLDERS, AVERAGED):
        several = [key for key in found if key in names]
        if len(several) > 1 and names is not network.names:
            raise CheckpointError(
                f"{path} has weights under {_listed(several)}, and it is not clear which are meant; save the one to "
                f"use alone, with torch.save(content[name], path)."
            )
        if several:
            key = min(several, key=names.index)
            break
    else:
        fitting = [key for key in found if key not in OTHERS and _fits(content[key], network)]
        if len(fitting) != 1:
            raise CheckpointError(
                f"{path} has no weights that fit: it holds {_described(content)}; expected a state_dict, "
                f"key -> tensor, or one under {', '.join((*network.names, *HOLDERS[:4]))}."
            )
        key = fitting[0]
    left += [other for other in map(str, content) if other != key]
    return key


def _fits(content: Any, network: Sought) -> bool:
    """Return whether some keys begin like the network's; false if it is not known how they do."""
    return isinstance(content, Mapping) and any(str(key).split(".")[0] in network.roots for key in content)


def _tensors(content: Mapping[Any, Any], path: Path, left: list[str]) -> dict[str, Tensor]:
    """Return the tensors of a state_dict without counters and the state of the training."""
    state: dict[str, Tensor] = {}
    for key, value in content.items():
        if not isinstance(key, str):
            raise CheckpointError(f"{path} has a key that is a {type(key).__name__}, {key!r:.40}; expected text.")
        number = value is None or isinstance(value, int | float)
        if number or _is_counter(key, value) or (_of_training(key) and not isinstance(value, Tensor)):
            left.append(key)
        elif isinstance(value, Tensor):
            state[key] = value
        else:
            kind = type(value).__name__
            raise CheckpointError(
                f"{path}: key {key} is a {kind}, expected a tensor. A checkpoint is a state_dict of tensors, saved "
                f"with torch.save(module.state_dict(), path); remove what else is in it."
            )
    return state


def _unprefixed(state: dict[str, Tensor], path: Path, network: Sought, left: list[str]) -> dict[str, Tensor]:
    """Return the state under the network's own keys, without the keys of other networks."""
    state = _renamed(state, path)
    while prefix := _prefix(state, network):
        inside = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        if prefix[:-1] in AVERAGED:
            note(f"{path}: the weights under {prefix}* are used, an average over the training")
        state = {**inside, **_own({k: v for k, v in state.items() if not k.startswith(prefix)}, network, left)}
    return _own(state, network, left) if _fits(state, network) else state


def _prefix(state: Mapping[str, Tensor], network: Sought) -> str:
    """Return the first part, with its dot, of the keys under which the network's own keys lie; "" if they lie bare."""
    beginnings = (*network.names, *HOLDERS, *AVERAGED)
    heads = {key.split(".")[0] for key in state}
    for head in beginnings:
        inner = {key.split(".")[1] for key in state if key.startswith(f"{head}.")}
        others = heads - {head}
        wraps = inner <= (network.roots if head in network.roots else network.roots.union(beginnings))
        alone = head not in network.roots and network.roots and others <= {*OTHERS, *AVERAGED}
        if inner and (wraps or alone) and not others & network.roots:
            return f"{head}."
    return ""


def _own(state: dict[str, Tensor], network: Sought, left: list[str]) -> dict[str, Tensor]:
    """Return the state without the keys of networks that only training has, and of averages."""
    surplus = {key.split(".")[0] for key in state}.intersection((*OTHERS, *AVERAGED)) - network.roots
    left += [f"{head}.*" for head in sorted(surplus)]
    return {key: value for key, value in state.items() if key.split(".")[0] not in surplus}


def _renamed(state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Return the state without the parts of keys that wrappers put in; CheckpointError if two become one."""
    renamed = {".".join(p for p in key.split(".") if p not in TRANSPARENT) or key: v for key, v in state.items()}
    if len(renamed) != len(state):
        raise CheckpointError(f"{path} has two keys that differ only in the names of wrappers such as 'module.'.")
    return renamed


def _described(content: Mapping[Any, Any]) -> str:
    """Return the entries with their types, the first few."""
    return _listed([f"{key} ({type(value).__name__})" for key, value in content.items()]) or "nothing"


def _listed(names: list[str]) -> str:
    """Return the first few names, and how many more there are."""
    more = len(names) - _LISTED
    return ", ".join(str(name)[:60] for name in names[:_LISTED]) + (f" and {more} more" if more > 0 else "")
