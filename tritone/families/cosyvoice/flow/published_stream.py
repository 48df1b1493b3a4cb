"""The published chunk schedule of v2 and v3, number for number: growing chunks, and a last one with full attention.

All chunks but the last are parts of one pass under the mask without a bound, so they come from a stream with state; the
published code computes everything so far again for each chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from tritone.errors import InvalidRequest
from tritone.families.cosyvoice.config.common import CosyVoiceConfig
from tritone.families.cosyvoice.flow.grid import chunk_tokens
from tritone.families.cosyvoice.flow.stream import FlowStream
from tritone.families.cosyvoice.voices.voice import Voice

LONGEST = 100
"""The longest published chunk in tokens; each is twice as long as the one before up to this."""


class PublishedStream:
    """A `MelStream` on the published schedule.

    Args:
        flow: a new stream in steps of one chunk, its mask without a bound.
        whole: mel `[1, 80, frames]` of all speech tokens in one pass of full attention.
        most: the largest number of speech tokens that such a pass takes.
    """

    def __init__(
        self,
        flow: FlowStream,
        config: CosyVoiceConfig,
        voice: Voice,
        whole: Callable[[list[int]], np.ndarray],
        most: int,
    ) -> None:
        self._flow, self._whole, self._most = flow, whole, most
        self._rate = config.flow.token_frame_rate
        self._ahead, self._ratio = config.flow.pre_lookahead_len, config.flow.token_mel_ratio
        self._hop = chunk_tokens(config)
        # The first chunk is longer, so that prompt and chunk end on the grid together.
        self._next = self._hop - len(voice.speech_token) % -self._hop
        self._tokens: list[int] = []
        self._done = 0

    def push(self, tokens: Iterable[int]) -> Iterator[np.ndarray]:
        """Yield mel `[1, 80, frames]` of every chunk the tokens complete.

        Raises InvalidRequest at the first token that the last chunk's pass would not take.
        """
        for token in tokens:
            if len(self._tokens) == self._most:
                raise InvalidRequest(
                    "target_text",
                    f"speaks longer than {self._most / self._rate:.0f} s in one segment, which is the limit with "
                    "flow.published_stream: its last chunk sees all of it at once. Split it by punctuation, or leave "
                    "the option out",
                )
            self._tokens.append(int(token))
            if len(self._tokens) == self._done + self._next + self._ahead:
                pushed = self._done + self._ahead if self._done else 0
                yield np.concatenate(list(self._flow.push(self._tokens[pushed:])), axis=2)
                self._done += self._next
                self._next = self._hop = min(2 * self._hop, LONGEST)

    def finish(self) -> Iterator[np.ndarray]:
        """Yield mel of the tokens still waiting."""
        if len(self._tokens) > self._done:
            yield self._whole(self._tokens)[:, :, self._ratio * self._done :]
