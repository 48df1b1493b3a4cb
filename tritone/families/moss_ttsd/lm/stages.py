"""The language model as a stage, and the group of sequences that it decodes together on any engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tritone.families.moss_ttsd.codec.stages import BATCH
from tritone.families.moss_ttsd.lm.config import AsteroidConfig
from tritone.stage import Arrays, Axis, Call, Scaled, Stage, Tensor

if TYPE_CHECKING:
    from torch import nn

    from tritone.families.moss_ttsd.lm.network import AsteroidLM

ROWS = Axis("rows", 1, 64, 4096)
PAST = Axis("past_rows", 0, 256, 8192)
PART = ROWS.opt
"""The most rows of a prompt that are computed between two steps: they take about as long as a few steps."""


def lm_stage(config: AsteroidConfig, load: Callable[[], AsteroidLM]) -> Stage:
    """Return the stage `lm_step`; `load()` returns the network with its weights and eager attention."""

    def build() -> nn.Module:
        from tritone.families.moss_ttsd.lm.network import LmStep

        return LmStep(load()).eval()

    def state(name: str, past: Axis | Scaled) -> Tensor:
        shape = (BATCH, config.num_hidden_layers, config.num_key_value_heads, past, 2 * config.head_dim)
        return Tensor(name, "float32", shape)

    speech = (BATCH, config.delay, config.speech_vocab_size)
    return Stage(
        name="lm_step",
        inputs=(
            Tensor("rows", "int64", (BATCH, ROWS, config.channels), values=(0, config.speech_vocab_size)),
            Tensor("padding", "int64", (BATCH,), values=(0, 1)),
            state("kv_state", PAST),
        ),
        outputs=(
            Tensor("text_logits", "float32", (BATCH, config.vocab_size)),
            Tensor("speech_logits", "float32", speech),
            state("next_kv_state", Axis("next_past_rows", 1, PAST.opt + 1, PAST.hi + ROWS.hi)),
        ),
        build=build,
        keep_fp32=("/rotary/*", "*norm/*"),
    )


class StageGroup:
    """Sequences decoded together, their keys and values in one array padded on the left; for one thread at a time."""

    def __init__(self, call: Call, config: AsteroidConfig) -> None:
        self._call, self._config = call, config
        self._together = self._of(0, 0)
        self._padding = np.zeros(0, np.int64)

    def prefill(self, prompt: np.ndarray, state: np.ndarray | None) -> tuple[list[np.ndarray] | None, np.ndarray]:
        """Return the logits `[ids]` by channel and the state of a new sequence after the next part of its prompt.

        The sequence joins the group at a `regroup` after the last part.

        Args:
            prompt: `[rows, channels]`, from which `PART` rows are taken, or those that are left.
            state: that after the part before; None for the first.

        Returns:
            logits: None until the prompt is complete.
        """
        past = self._of(1, 0) if state is None else state[None]
        done = past.shape[3]
        part = prompt[None, done : done + PART]
        outputs = self._call("lm_step", rows=part, padding=np.zeros(1, np.int64), kv_state=past)
        complete = done + part.shape[1] == len(prompt)
        return (_logits(outputs)[0] if complete else None), outputs["next_kv_state"][0]

    def step(self, rows: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
        """Return the logits by channel of each sequence of the group after its next row `[channels]`."""
        new = np.stack(rows)[:, None]
        outputs = self._call("lm_step", rows=new, padding=self._padding, kv_state=self._together)
        self._together = outputs["next_kv_state"]
        return _logits(outputs)

    def state(self, place: int) -> np.ndarray:
        """Return a copy of the state `[layers, heads, past, 2 x head_dim]` of the sequence at a place in the group."""
        return self._own(place).copy()

    def regroup(self, kept: Sequence[int], joining: Sequence[np.ndarray]) -> None:
        """Form the group anew from the sequences at the places `kept`, in this order, and those of states `joining`."""
        states = [*map(self._own, kept), *joining]
        lengths = [state.shape[2] for state in states]
        longest = max(lengths, default=0)
        self._padding = np.array([longest - length for length in lengths], np.int64)
        together = self._of(len(states), longest)
        for place, (state, padding) in enumerate(zip(states, self._padding, strict=True)):
            together[place, :, :, padding:] = state
        self._together = together

    def _of(self, batch: int, past: int) -> np.ndarray:
        c = self._config
        return np.zeros((batch, c.num_hidden_layers, c.num_key_value_heads, past, 2 * c.head_dim), np.float32)

    def _own(self, place: int) -> np.ndarray:
        own: np.ndarray = self._together[place, :, :, self._padding[place] :]
        return own


def _logits(outputs: Arrays) -> list[list[np.ndarray]]:
    """Return the logits `[ids]` by sequence, then by channel."""
    return [[text, *speech] for text, speech in zip(outputs["text_logits"], outputs["speech_logits"], strict=True)]
