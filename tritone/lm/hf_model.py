"""A language model in the form of transformers, TensorRT-LLM and vLLM: a plain causal LM over one vocabulary.

What such a model cannot hold (a head bias, rows that are never looked up) is stored beside it, so that the conversion
back is exact. The
family fills in an `HfModel`; `export/to_huggingface.py` writes it to a folder and reads it again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

ROWS = 128
"""Vocabularies are padded to a multiple of this, which tensor cores and tensor parallelism like."""

BIAS = "logit_bias.safetensors"
"""The file of a folder that holds `logit_bias` float32 `[vocabulary]`."""
EXTRA = "checkpoint_extra.safetensors"
"""The file of a folder that holds what the conversion back needs."""
IDS = "ids.json"
"""The file of a folder that says which ids are speech, and where the ids that sessions take stand."""


@dataclass(frozen=True)
class HfWeights:
    """A checkpoint's tensors in the shape of a plain causal LM.

    Args:
        model: the causal LM's own state_dict.
        bias: float32 `[vocabulary]`, added to the logits: the head's bias, and -inf for ids that are never sampled.
        extra: tensors of the checkpoint that neither holds.
        notes: strings that say how to put them together again.
    """

    model: dict[str, Tensor]
    bias: Tensor
    extra: dict[str, Tensor]
    notes: dict[str, str]


@dataclass(frozen=True)
class HfModel:
    """Everything a folder for transformers is written from; nothing is read from the checkpoint before `read()`.

    Args:
        config: `config.json`; `generation`: `generation_config.json`.
        tokenizer: `tokenizer.json`, where every row of the vocabulary has a name in the base vocabulary.
        tokenizer_config: `tokenizer_config.json`, chat template included.
        first, rows: the ids the head can emit are `first + i` for i in `range(rows)`.
        positions: longest sequence.
        segments: (first, first here, how many) of each run of ids of the merged vocabulary that sessions take.
        read: the checkpoint's state_dict in its stored dtypes.
        split: that state_dict as weights of the causal LM; `join` is the exact inverse.
    """

    config: Mapping[str, Any]
    generation: Mapping[str, Any]
    tokenizer: Mapping[str, Any]
    tokenizer_config: Mapping[str, Any]
    first: int
    rows: int
    positions: int
    segments: tuple[tuple[int, int, int], ...]
    read: Callable[[], dict[str, Tensor]]
    split: Callable[[Mapping[str, Tensor]], HfWeights]
    join: Callable[[HfWeights], dict[str, Tensor]]

    def ids(self, merged: Sequence[int]) -> list[int]:
        """Return ids of the merged vocabulary as ids of this one; ValueError for one that has no token here."""
        return moved(merged, self.segments)


def moved(merged: Sequence[int], segments: Sequence[Sequence[int]]) -> list[int]:
    """Return each id of the merged vocabulary in the other vocabulary; ValueError for an id outside all segments."""
    return [_moved(token, segments) for token in merged]


def _moved(token: int, segments: Sequence[Sequence[int]]) -> int:
    for first, there, count in segments:
        if first <= token < first + count:
            return there + token - first
    raise ValueError(f"id {token} of the merged vocabulary has no token in the one for transformers")


class HfSession:
    """One sequence on a folder's model in float32, as every other engine gives it: merged ids in, logits `[rows]` out.

    Args:
        network: what `AutoModelForCausalLM` made of the folder.
        bias: the folder's bias `[vocabulary]`.
    """

    def __init__(self, model: HfModel, network: Any, bias: Tensor) -> None:
        self._model, self._network, self._bias = model, network, bias
        self._cache: Any = None

    def prefill(self, ids: Sequence[int]) -> np.ndarray:
        """Return logits after a prompt of merged ids; starts the sequence over."""
        self._cache = None
        return self._forward(self._model.ids(ids))

    def step(self, token: int) -> np.ndarray:
        """Return logits after one more token."""
        return self._forward([self._model.first + token])

    def extend(self, ids: Sequence[int]) -> np.ndarray:
        """Return logits after more merged ids."""
        return self._forward(self._model.ids(ids))

    def close(self) -> None:
        """Free the cache."""
        self._cache = None

    def _forward(self, ids: list[int]) -> np.ndarray:
        import torch

        with torch.inference_mode():
            output = self._network(torch.tensor([ids]), past_key_values=self._cache, use_cache=True)
            self._cache = output.past_key_values
            logits = output.logits[0, -1].float() + self._bias
        return logits[self._model.first : self._model.first + self._model.rows].numpy()


def folder_session(model: HfModel, folder: Path) -> HfSession:
    """Return a session on a folder that `export/to_huggingface.py` wrote, for comparisons; it computes in float32."""
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return HfSession(model, network, load_file(folder / BIAS)["logit_bias"])


def identical(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors have the same dtype, shape and bits (so 0.0 is not -0.0, and equal NaNs are equal)."""
    import torch

    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return torch.equal(one.contiguous().view(torch.uint8), other.contiguous().view(torch.uint8))
