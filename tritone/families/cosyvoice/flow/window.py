"""How far back a streaming estimator looks: to the voice's prompt, and to the last chunks.

The published mask has no bound, so that every chunk of a long sentence costs more than the one before. Where neither
the checkpoint nor `flow.stream_left_chunks` asks for that, keys between prompt and last chunks leave the state.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import numpy as np

from tritone.families.cosyvoice.config.common import ChunkedFlow, CosyVoiceConfig
from tritone.stage import Arrays


class Window(NamedTuple):
    """What is kept of the estimator's past, in frames on its chunk grid.

    Args:
        chunk: frames of a chunk, which is what the state grows by between two cuts.
        prompt: frames of the chunks in which the prompt lies; they are seen by all that follow.
        last: frames before a chunk that it sees besides.
        turned: leading channels of the first head's keys that have rotary positions, 0 for none.
    """

    chunk: int
    prompt: int
    last: int
    turned: int

    def cut(self, state: Arrays) -> Arrays:
        """Return the state of one Euler step without the keys the next chunk does not see.

        Itself while there are none.
        """
        past = state["att_state"]
        extra = past.shape[3] - self.prompt - self.last
        if extra <= 0:
            return state
        kept = np.concatenate([past[:, :, :, : self.prompt], past[:, :, :, self.prompt + extra :]], axis=3)
        # Positions are counted in the state, where the prompt has just come closer: its keys are turned back as far.
        first = kept[:, :, 0, : self.prompt, : self.turned]
        first[...] = turn(first, -extra)
        return {**state, "att_state": kept}


def stream_window(config: CosyVoiceConfig, prompt_tokens: int) -> Window | None:
    """Return the window of a stream; None where the checkpoint's own mask decides (it has a bound, or is to have
    none).
    """
    flow, estimator = config.flow, cast("ChunkedFlow", config.flow).estimator
    if estimator.left_chunks >= 0 or flow.stream_left_chunks < 0:
        return None
    chunk = estimator.chunk_size
    chunks = -(-prompt_tokens * flow.token_mel_ratio // chunk)
    return Window(chunk, chunks * chunk, flow.stream_left_chunks * chunk, estimator.rotary_channels)


def turn(keys: np.ndarray, positions: int) -> np.ndarray:
    """Keys `[..., dim]` as if they stood so many positions later, turned as `tritone.nn.rotary` turns."""
    dim = keys.shape[-1]
    angle = positions * 10000.0 ** (-np.arange(0, dim, 2) / max(dim, 1))
    turned = (keys[..., 0::2] + 1j * keys[..., 1::2]) * np.exp(1j * angle)
    return np.stack([turned.real, turned.imag], axis=-1).reshape(keys.shape).astype(keys.dtype)
