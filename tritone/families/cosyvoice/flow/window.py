"""The past that a streaming estimator attends to: the voice's prompt and the last chunks.

The published mask has no bound, so every chunk of a long sentence costs more than the one before. Unless the checkpoint
or `flow.stream_left_chunks` decides otherwise, keys between the prompt and the last chunks are dropped from the state.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import numpy as np

from tritone.families.cosyvoice.config.common import ChunkedFlow, CosyVoiceConfig
from tritone.stage import Arrays


class Window(NamedTuple):
    """The part of the estimator's past that is kept, in frames on its chunk grid.

    Args:
        chunk: frames of a chunk, by which the state grows between two cuts.
        prompt: frames of the chunks that contain the prompt; all later chunks attend to them.
        last: frames before a chunk that it attends to as well.
        turned: leading channels of the first head's keys that have rotary positions, 0 for none.
    """

    chunk: int
    prompt: int
    last: int
    turned: int

    def cut(self, state: Arrays) -> Arrays:
        """Return the state of one Euler step without the keys that the next chunk does not attend to.

        The state itself is returned if it has none.
        """
        past = state["att_state"]
        extra = past.shape[3] - self.prompt - self.last
        if extra <= 0:
            return state
        kept = np.concatenate([past[:, :, :, : self.prompt], past[:, :, :, self.prompt + extra :]], axis=3)
        # Positions are counted within the state, where the prompt is now closer to the end: its keys turn with it.
        first = kept[:, :, 0, : self.prompt, : self.turned]
        first[...] = turn(first, -extra)
        return {**state, "att_state": kept}


def stream_window(config: CosyVoiceConfig, prompt_tokens: int) -> Window | None:
    """Return the window of a stream; None if the checkpoint's own mask is used, with its bound or without one."""
    flow, estimator = config.flow, cast("ChunkedFlow", config.flow).estimator
    if estimator.left_chunks >= 0 or flow.stream_left_chunks < 0:
        return None
    chunk = estimator.chunk_size
    chunks = -(-prompt_tokens * flow.token_mel_ratio // chunk)
    return Window(chunk, chunks * chunk, flow.stream_left_chunks * chunk, estimator.rotary_channels)


def turn(keys: np.ndarray, positions: int) -> np.ndarray:
    """Return keys `[..., dim]` moved by a number of positions, with the rotation of `tritone.nn.rotary`."""
    dim = keys.shape[-1]
    angle = positions * 10000.0 ** (-np.arange(0, dim, 2) / max(dim, 1))
    turned = (keys[..., 0::2] + 1j * keys[..., 1::2]) * np.exp(1j * angle)
    return np.stack([turned.real, turned.imag], axis=-1).reshape(keys.shape).astype(keys.dtype)
