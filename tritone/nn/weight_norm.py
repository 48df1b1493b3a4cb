"""Weight normalisation: a weight is a direction and a gain per output row (Salimans and Kingma, 2016)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

Module = TypeVar("Module", bound=nn.Module)


def weight_norm(module: Module) -> Module:
    """Return the module with its weight split into gain (`original0`) and direction (`original1`), per row of dimension
    0.

    Dimension 0 also for transposed convolutions, where it counts input channels, as published checkpoints have it.
    Loading a state_dict accepts this layout and the older `weight_g` / `weight_v`.
    """
    return parametrizations.weight_norm(module, dim=0)


def fold_weight_norm(module: Module) -> Module:
    """Return the module itself with every normalised weight replaced by its plain value.

    Same outputs, less work.
    """
    for child in module.modules():
        if parametrize.is_parametrized(child, "weight"):
            parametrize.remove_parametrizations(child, "weight", leave_parametrized=True)
    return module


def older_layout(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state_dict under the names of the older layout, `weight_g` and `weight_v`, in the same order."""
    names = {".parametrizations.weight.original0": ".weight_g", ".parametrizations.weight.original1": ".weight_v"}
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        ending = next((ending for ending in names if key.endswith(ending)), "")
        renamed[key.removesuffix(ending) + names.get(ending, "")] = value
    return renamed
