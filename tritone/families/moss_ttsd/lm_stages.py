"""The language model as a stage, and sessions over it on every engine that runs stages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tritone.families.moss_ttsd.codec_stages import BATCH
from tritone.families.moss_ttsd.delay import left_padded
from tritone.families.moss_ttsd.lm_config import AsteroidConfig
from tritone.stage import Arrays, Axis, Call, Scaled, Stage, Tensor

if TYPE_CHECKING:
    from torch import nn

    from tritone.families.moss_ttsd.lm import AsteroidLM

ROWS = Axis("rows", 1, 64, 4096)
PAST = Axis("past_rows", 0, 256, 8192)


def lm_stage(config: AsteroidConfig, load: Callable[[], AsteroidLM]) -> Stage:
    """Stage `lm_step`; `load()` returns the network with its weights and eager attention."""

    def build() -> nn.Module:
        from tritone.families.moss_ttsd.lm import LmStep

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
    """Sequences decoded together; one thread at a time."""

    def __init__(self, call: Call, config: AsteroidConfig) -> None:
        self._call, self._config = call, config
        self._state: np.ndarray | None = None
        self._padding = np.zeros(0, np.int64)

    def prefill(self, prompts: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Logits after prompts; see `generate.Session`."""
        c = self._config
        rows, self._padding = left_padded(prompts, c.pads)
        shape = (len(rows), c.num_hidden_layers, c.num_key_value_heads, 0, 2 * c.head_dim)
        self._state = np.zeros(shape, np.float32)
        return self._append(rows)

    def step(self, row: np.ndarray) -> list[np.ndarray]:
        """Logits after one more row of each sequence."""
        if self._state is None:
            raise ValueError("this session has no prompt; call prefill first")
        return self._append(row[:, None])

    def close(self) -> None:
        """Free the keys and values; more than once does no harm."""
        self._state = None

    def _append(self, rows: np.ndarray) -> list[np.ndarray]:
        assert self._state is not None
        found: Arrays = self._call("lm_step", rows=rows, padding=self._padding, kv_state=self._state)
        self._state = found["next_kv_state"]
        return [found["text_logits"], *found["speech_logits"].transpose(1, 0, 2)]
