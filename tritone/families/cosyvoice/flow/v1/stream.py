"""Speech tokens to mel in chunks for v1, whose flow works on whole utterances.

Chunks overlap by 20 tokens. In the overlap they share noise and features (`cache`), so they nearly agree, and are
cross-faded. Every chunk costs the same: the prompt, its own tokens and the overlap.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import cast

import numpy as np

from tritone.families.cosyvoice.config.common import CosyVoiceConfig
from tritone.families.cosyvoice.config.v1 import InterpolatingFlowConfig
from tritone.families.cosyvoice.flow.noise import Draw
from tritone.families.cosyvoice.flow.v1.cache import continued, empty_cache, next_cache
from tritone.families.cosyvoice.flow.v1.interpolation import EDGE
from tritone.families.cosyvoice.speak.whole import Features, decode, encode, prompt_mel, tokens_of
from tritone.families.cosyvoice.voices.voice import Voice
from tritone.stage import Call

HOP = 100
"""Tokens from the start of one chunk to the next, as published: 2 s."""


class InterpolatingStream:
    """Mel frames from speech tokens as they arrive.

    Args:
        call: runs `flow_encoder` and `flow_estimator`.
        voice: its prompt tokens and prompt mel begin every chunk and are not part of the output.
        draw: the noise of a chunk, prompt included; the frames shared with the chunk before keep their noise.
        hop: tokens per chunk, without the overlap.
        published: cross-fade with the published windows, whose sum is up to 1.08 instead of 1.
    """

    def __init__(
        self,
        call: Call,
        config: CosyVoiceConfig,
        voice: Voice,
        draw: Draw,
        hop: int = HOP,
        published: bool = False,
    ) -> None:
        if hop < EDGE:
            raise ValueError(f"hop is {hop} tokens; it must be {EDGE} or more, the overlap of two chunks")
        flow = cast("InterpolatingFlowConfig", config.flow)
        self._call, self._config, self._flow = call, config, flow
        self._voice, self._draw, self._hop = voice, draw, hop
        self._cache = empty_cache(flow)
        self._tokens: list[int] = []
        self._tail = np.zeros((1, flow.output_size, 0), np.float32)
        self._fade_in, self._fade_out = fades(flow.frames(EDGE), published)

    def push(self, tokens: Iterable[int]) -> Iterator[np.ndarray]:
        """Yield mel `[1, 80, frames]` of every chunk the tokens complete."""
        for token in tokens:
            self._tokens.append(int(token))
            if len(self._tokens) == self._hop + EDGE:
                yield self._chunk(last=False)
                del self._tokens[: self._hop]

    def finish(self) -> Iterator[np.ndarray]:
        """Yield mel of the tokens still waiting."""
        if self._tokens:
            yield self._chunk(last=True)
            self._tokens = []

    def _chunk(self, last: bool) -> np.ndarray:
        (encoded,) = encode(self._call, self._config, [tokens_of(self._tokens, self._voice)])
        noise, mu = continued(self._draw(encoded.mu.shape[2]), encoded.mu, self._cache)
        features = Features(mu, encoded.spks)
        (mel,) = decode(self._call, self._config, [features], [prompt_mel(self._voice)], [noise])
        shared = self._tail.shape[2]
        mel[:, :, :shared] = self._fade_in[:shared] * mel[:, :, :shared] + self._fade_out[:shared] * self._tail
        if last:
            return mel
        self._cache = next_cache(self._flow, noise, mu, len(self._voice.mel))
        keep = mel.shape[2] - len(self._fade_in)
        self._tail = mel[:, :, keep:]
        return mel[:, :, :keep]


def fades(frames: int, published: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Return weights `[frames]` of the new and of the old chunk, which add up to one, so that the level is kept.

    The two chunks' frames differ only by their context, so their amplitudes (in log mel) should not change. The
    published halves of a Hamming window add up to 1.06 to 1.08, which makes every seam of a log mel quieter.
    """
    if published:
        window = np.hamming(2 * frames).astype(np.float32)
        return window[:frames], window[frames:]
    rising = ((np.arange(frames) + 0.5) / frames).astype(np.float32)
    return rising, 1 - rising
