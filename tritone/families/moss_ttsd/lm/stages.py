"""The language model as a stage, and sessions over it on every engine that runs stages."""

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


def lm_stage(config: AsteroidConfig, load: Callable[[], AsteroidLM]) -> Stage:
    """Stage `lm_step`; `load()` returns the network with its weights and eager attention."""

    def build() -> nn.Module:
        from tritone.families.moss_ttsd.lm.network import LmStep

        return LmStep(load()).eval()

    def state(name: str, past: Axis | Scaled) -> Tensor:
        shape = (BATCH, config.num_hidden_layers, config.num_key_value_heads, past, 2 * config.head_dim)
        return Tensor(name, "float32", shape)

    others = (BATCH, config.delay, config.speech_vocab_size)
    return Stage(
        name="lm_step",
        inputs=(
            Tensor("rows", "int64", (BATCH, ROWS, config.channels), values=(0, config.speech_vocab_size)),
            Tensor("padding", "int64", (BATCH,), values=(0, 1)),
            state("kv_state", PAST),
        ),
        outputs=(
            Tensor("text_logits", "float32", (BATCH, config.vocab_size)),
            Tensor("speech_logits", "float32", others),
            state("next_kv_state", Axis("next_past_rows", 1, PAST.opt + 1, PAST.hi + ROWS.hi)),
        ),
        build=build,
        keep_fp32=("/rotary/*", "*norm/*"),
    )


class StageSession:
    """Sequences decoded together, their keys and values in one array padded on the left; one thread at a time."""

    def __init__(self, call: Call, config: AsteroidConfig) -> None:
        self._call, self._config = call, config
        self._together = self._of(0, 0)
        self._padding = np.zeros(0, np.int64)

    def prefill(self, prompt: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        """(logits `[ids]` by channel, state) of one more sequence after its prompt `[rows, channels]`.

        It does not belong to those decoded together before it is joined.
        """
        found = self._call("lm_step", rows=prompt[None], padding=np.zeros(1, np.int64), kv_state=self._of(1, 0))
        return _logits(found)[0], found["next_kv_state"][0]

    def step(self, rows: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
        """Return logits by channel of each sequence after one more row `[channels]` of it."""
        new = np.stack(rows)[:, None]
        found = self._call("lm_step", rows=new, padding=self._padding, kv_state=self._together)
        self._together = found["next_kv_state"]
        return _logits(found)

    def state(self, place: int) -> np.ndarray:
        """Return a copy of the state `[layers, heads, past, 2 x head_dim]` of one of those decoded together."""
        return self._own(place).copy()

    def regroup(self, kept: Sequence[int], joining: Sequence[np.ndarray]) -> None:
        """Decode together from now on those in these places, in this order, and sequences of these states."""
        states = [*map(self._own, kept), *joining]
        lengths = [one.shape[2] for one in states]
        longest = max(lengths, default=0)
        self._padding = np.array([longest - length for length in lengths], np.int64)
        together = self._of(len(states), longest)
        for place, (one, padding) in enumerate(zip(states, self._padding, strict=True)):
            together[place, :, :, padding:] = one
        self._together = together

    def _of(self, batch: int, past: int) -> np.ndarray:
        c = self._config
        return np.zeros((batch, c.num_hidden_layers, c.num_key_value_heads, past, 2 * c.head_dim), np.float32)

    def _own(self, place: int) -> np.ndarray:
        own: np.ndarray = self._together[place, :, :, self._padding[place] :]
        return own


def _logits(found: Arrays) -> list[list[np.ndarray]]:
    """By sequence, then by channel."""
    return [[text, *speech] for text, speech in zip(found["text_logits"], found["speech_logits"], strict=True)]
