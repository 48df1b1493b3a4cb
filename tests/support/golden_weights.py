"""Weights of the tiny CosyVoice checkpoint behind the golden numbers, made from a rule instead of stored in full.

A tensor is standard normal noise from a generator seeded by the checksum of its name, put through the function that
`weights.json` names for it; the few tensors that were calibrated by hand are in `stored.npz`.
"""

from __future__ import annotations

import functools
import gzip
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

GOLDEN = Path(__file__).parents[1] / "golden"
BACKBONE = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "hidden_act": "silu",
    "hidden_size": 64,
    "intermediate_size": 128,
    "max_position_embeddings": 32768,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "tie_word_embeddings": True,
    "torch_dtype": "float32",
    "use_sliding_window": False,
    "vocab_size": 151936,
}
"""The tiny Qwen2's `config.json`."""

_SCALES = {"scale_0.05": 0.05, "scale_0.2": 0.2, "scale_0.3": 0.3, "scale_0.7": 0.7}


def golden(name: str, version: str = "v2") -> dict[str, np.ndarray]:
    """Return arrays of `tests/golden/cosyvoice_<version>/<name>.npz`."""
    with np.load(GOLDEN / f"cosyvoice_{version}" / f"{name}.npz") as arrays:
        return {key: arrays[key] for key in arrays.files}


def tiny_state(file: str, version: str = "v2") -> dict[str, torch.Tensor]:
    """Return the state_dict of `<file>.pt` ("llm", "flow" or "hift") of the tiny checkpoint: key -> float32 tensor."""
    rules = _rules(version)
    if file not in rules:
        raise KeyError(f"the tiny checkpoint has {', '.join(rules)}, not {file!r}")
    stored = golden("stored", version)
    state: dict[str, torch.Tensor] = {}
    for key, (rule, shape, *source) in rules[file].items():
        if rule == "tied":
            state[key] = state[source[0]]
        elif rule == "stored":
            state[key] = torch.from_numpy(stored[f"{file}.{key}"])
        else:
            state[key] = _apply(rule, _noise(f"{file}.{key}", shape))
    return state


@functools.cache
def _rules(version: str) -> dict[str, dict[str, list[Any]]]:
    return json.loads((GOLDEN / f"cosyvoice_{version}" / "weights.json").read_text())


def _noise(name: str, shape: list[int]) -> torch.Tensor:
    seed = (zlib.crc32(name.encode()) * 2654435761 + 1) % 2**63
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _apply(rule: str, noise: torch.Tensor) -> torch.Tensor:
    if rule in _SCALES:
        return _SCALES[rule] * noise
    if rule == "fan_in":
        return noise / noise[0].numel() ** 0.5
    if rule == "one_plus_0.1":
        return 1 + 0.1 * noise
    if rule == "one_plus_0.3_abs":
        return 1 + 0.3 * noise.abs()
    raise ValueError(f"unknown weight rule {rule!r}")


FULL_BACKBONE = BACKBONE | {
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_attention_heads": 14,
    "num_hidden_layers": 24,
}
"""The backbone of the official v2 and v3 checkpoints."""


def full_size_shapes(version: int, network: str) -> dict[str, list[int]]:
    """Return the key -> shape of an official checkpoint's "llm", "flow" or "hift"."""
    packed = (GOLDEN / f"cosyvoice_v{version}" / "manifest.json.gz").read_bytes()
    shapes: dict[str, list[int]] = json.loads(gzip.decompress(packed))[network]
    return shapes
