"""The choice of parameters to train: all except those that a pattern freezes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from torch import nn

from tritone.errors import ConfigError


def freeze(networks: Mapping[str, nn.Module], patterns: Sequence[str]) -> list[str]:
    """Freeze parameters `<network>.<parameter>` that match a pattern (`G.enc_p.bert_proj.*`); return their names.

    Raises ConfigError for a pattern without a match; the message lists the parts of the networks.
    """
    parameters = {f"{n}.{key}": p for n, network in networks.items() for key, p in network.named_parameters()}
    frozen: dict[str, nn.Parameter] = {}
    for pattern in patterns:
        matched = {name: p for name, p in parameters.items() if fnmatchcase(name, pattern)}
        if not matched:
            parts = sorted({".".join(name.split(".")[:2]) for name in parameters})
            raise ConfigError(
                f"train.freeze has {pattern!r}, which matches no parameter. A pattern is a network, a dot and a "
                f"parameter's name, with * for anything; the parts are {', '.join(f'{part}.*' for part in parts)}."
            )
        frozen |= matched
    for parameter in frozen.values():
        parameter.requires_grad_(False)
    return sorted(frozen)


def trainable(name: str, network: nn.Module) -> list[nn.Parameter]:
    """Return the parameters for the network's optimiser; ConfigError when everything is frozen."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    if not parameters:
        raise ConfigError(f"train.freeze leaves nothing to train in {name}; leave at least one parameter out of it.")
    return parameters
