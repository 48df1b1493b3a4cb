"""Rows of eight ids, one after another: the prompt's delayed tail, sampling by channel, and the drain after the end.

A row holds one id for each channel, every channel one frame later than the one before (see `delay`).
Source: the published model's sampling loop; its constants 8, 1024 and 152694 are read from the configuration here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tritone.errors import InvalidRequest
from tritone.families.moss_ttsd.lm.config import AsteroidConfig, ChannelSampling
from tritone.lm.sampling import check_scores, softmax

Draw = Callable[[np.ndarray], int]
"""`draw(probabilities [n]) -> index`."""


class RowSession:
    """One sequence being decoded: its prompt, and the next row for the logits after all rows before it.

    The last row is the `channels - 2`-th after the one in which speech ends, or the one that reaches `longest`.

    Args:
        prompt: delayed rows `[rows, channels]`, `channels - 1` more than its frames. Those last rows do not belong to
            `self.prompt`: their ids are forced on the channels that are still behind.
        sampling: the settings of each channel.
        longest: the limit of prompt and speech together, in rows.

    Raises:
        InvalidRequest: the prompt has no frame, or does not fit.
    """

    def __init__(
        self,
        prompt: np.ndarray,
        config: AsteroidConfig,
        sampling: Sequence[ChannelSampling],
        draw: Draw,
        longest: int | None = None,
    ) -> None:
        limit = min(longest or config.max_position_embeddings, config.max_position_embeddings)
        start = len(prompt) - config.delay
        if start < 1:
            raise InvalidRequest("prompt", f"has {len(prompt)} rows with a delay of {config.delay}, so not one frame")
        if start >= limit:
            raise InvalidRequest("prompt", f"has {start} rows; the limit is {limit - 1}")
        self.prompt, self.over = prompt[:start], False
        self._config, self._sampling, self._draw = config, sampling, draw
        self._forced, self._limit = prompt, limit
        self._history = np.empty((limit, config.channels), np.int64)
        self._history[:start] = self.prompt
        self._at, self._since_end = start, -1

    def next(self, logits: Sequence[np.ndarray]) -> np.ndarray:
        """Return the next row `[channels]` for the logits `[ids]` of each channel after all rows before it."""
        c, at, start, total = self._config, self._at, len(self.prompt), len(self._forced)
        row = np.empty(c.channels, np.int64)
        for channel, own_logits in enumerate(logits):
            scores = own_logits.astype(np.float32)
            if channel == 0 and at <= total:
                scores[c.speech_eos] = -np.inf
            if channel > 0 and at + 1 > start + channel:
                scores[c.speech_pad_token] = -np.inf
            row[channel] = choose(scores, self._history[:at, channel], self._sampling[channel], self._draw)
        if at < total:
            behind = np.arange(c.channels) > at - start
            row[behind] = self._forced[at, behind]
        if self._since_end >= 0:
            self._drain(row)
            self._since_end += 1
        elif not is_speech(row, c):
            self._since_end = 0
        self._history[at] = row
        self._at += 1
        # The row in which speech ends and the drain make up the delay of the last channel.
        self.over = self._since_end >= c.delay - 1 or self._at >= self._limit
        return row

    def _drain(self, row: np.ndarray) -> None:
        """Overwrite the ids after the end: of channel 0 at once, of the others after their last frame."""
        passed = np.arange(self._config.channels) <= self._since_end + 1
        row[passed] = self._config.speech_pad_token
        row[0] = self._config.eos_token_id


def is_speech(row: np.ndarray, config: AsteroidConfig) -> bool:
    """Return whether channel 0 of a row `[channels]` is speech; the first row without speech is the end."""
    first, last = config.speech_tokens
    return bool(first <= row[0] < last)


def choose(logits: np.ndarray, previous: np.ndarray, sampling: ChannelSampling, draw: Draw) -> int:
    """Return the next id of a channel after repetition penalty, temperature, top k, top p and a draw.

    Args:
        logits: `[ids]` float32.
        previous: all ids of the channel so far, those of the prompt included.

    Raises:
        TritoneError: scores are not numbers.
    """
    check_scores(logits)
    scores = logits.copy()
    if sampling.repetition_penalty != 1.0:
        known = np.unique(previous)
        penalty = np.float32(sampling.repetition_penalty)
        scores[known] = np.where(scores[known] < 0, scores[known] * penalty, scores[known] / penalty)
    if not sampling.do_sample:
        return int(np.argmax(scores))
    scores /= np.float32(sampling.temperature)
    kept = np.arange(len(scores))
    if 0 < sampling.top_k < len(scores):
        least = np.partition(scores, -sampling.top_k)[-sampling.top_k]
        kept = np.flatnonzero(scores >= least)
    chances = softmax(scores[kept])
    if sampling.top_p < 1.0:
        order = np.argsort(chances, kind="stable")
        outside = np.cumsum(chances[order]) <= 1 - sampling.top_p
        outside[-1] = False
        inside = np.sort(order[~outside])
        kept, chances = kept[inside], chances[inside]
    return int(kept[draw(chances)])
