"""Weights behind the golden numbers of Bert-VITS2 and MOSS-TTSD: every tensor is a function of its key and shape.

Standard normal noise from a generator seeded by the key's checksum, scaled by what the key says the tensor is. Tables
of positions and windows keep the network's own values. The discriminators' keys begin with "D.", "DUR." and "WD.",
those of WavLM with "wavlm."; all others are bare.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

OWN = re.compile(r"(positional_embedding|\.window|inv_freq|masked_spec_embed|num_batches_tracked)$")
"""Keys that the rule leaves alone."""
_GAINS = ("weight_g", "gamma", "original0", "cluster_size")
_SMALL = ("m", "logs")


def key_values(key: str, shape: tuple[int, ...], prefix: str = "") -> np.ndarray:
    """Return the float32 values of the tensor named `key` in the file."""
    name = prefix + key
    if re.match(r"enc_[pq]\.proj\.", name):
        return np.float32(0.1) * _scaled(f"_{name}", shape)
    return _scaled(name, shape)


def published_key(key: str) -> str:
    """Return the key under which weight normalisation kept the tensor before parametrisations."""
    for new, old in (("original0", "weight_g"), ("original1", "weight_v")):
        key = key.replace(f"parametrizations.weight.{new}", old)
    return key


def key_state(own: Mapping[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
    """Return the whole state_dict by that rule, under published keys.

    `own` gives keys, shapes and what is left alone.
    """
    state: dict[str, Tensor] = {}
    for key, value in own.items():
        name = published_key(key)
        if OWN.search(name):
            state[name] = value
        elif value.dtype == torch.bool:
            state[name] = torch.ones_like(value)
        else:
            state[name] = torch.from_numpy(key_values(name, tuple(value.shape), prefix))
    return state


def _scaled(name: str, shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng([zlib.crc32(name.encode()), 0])
    noise = rng.standard_normal(shape or (1,)).astype(np.float32).reshape(shape)
    last = name.rsplit(".", 1)[-1]
    if last in ("codebook", "embed", "embed_avg"):
        return noise
    if last in _GAINS or (last == "weight" and noise.ndim == 1):
        return 1 + np.float32(0.1) * noise
    if noise.ndim >= 2 and last not in _SMALL:
        return noise / np.float32(np.sqrt(np.prod(noise.shape[1:])))
    return np.float32(0.1) * noise
