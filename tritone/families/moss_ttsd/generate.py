"""Rows of eight ids, one after another: the prompt's delayed tail, sampling by channel, and the drain after the end.

Source: the published model's sampling loop. Where it says 8, 1024 and 152694, this asks the configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np

from tritone.errors import InvalidRequest
from tritone.families.moss_ttsd.delay import left_padded
from tritone.families.moss_ttsd.lm_config import AsteroidConfig, ChannelSampling
from tritone.lm.sampling import softmax

Draw = Callable[[np.ndarray], int]
"""`draw(probabilities [n]) -> index`."""
Restrict = Callable[[int, int, np.ndarray], None]
"""`restrict(row, channel, logits)` changes logits `[batch, ids]` in place before anything else looks at them."""


class Session(Protocol):
    """Sequences being decoded together by some engine; logits are float32 `[batch, ids]`, by channel."""

    def prefill(self, prompts: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Logits after rows `[rows, channels]` of each sequence; starts over."""
        ...

    def step(self, row: np.ndarray) -> list[np.ndarray]:
        """Logits after one more row of each sequence, `[batch, channels]`."""
        ...


def generate(
    session: Session,
    prompts: Sequence[np.ndarray],
    config: AsteroidConfig,
    sampling: Sequence[Sequence[ChannelSampling]],
    draws: Sequence[Draw],
    longest: int | None = None,
    restrict: Restrict | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(row `[batch, channels]`, ended `[batch]`) of each step, until every sequence has ended and drained.

    A sequence's last row is the `channels - 2`-th after the one in which it ended; later ones hold padding.

    Args:
        prompts: delayed rows `[rows, channels]` of each sequence, `channels - 1` more than it has frames. The last of
            them are not heard at once: they are forced on the channels that are still behind.
        sampling: by sequence, then by channel. draws: by sequence.
        longest: rows of prompt and speech together at which all stop.
    """
    delay, pads = config.delay, config.pads
    forced, _ = left_padded(prompts, pads)
    batch, total = forced.shape[:2]
    start = total - delay
    limit = min(longest or config.max_position_embeddings, config.max_position_embeddings)
    if start < 1 or start >= limit:
        raise InvalidRequest("prompt", f"has {start} rows; there must be at least 1 and fewer than {limit}")
    if min(map(len, prompts)) <= delay:
        raise InvalidRequest("prompt", f"has no row of its own: {min(map(len, prompts))} with a delay of {delay}")
    history = forced[:, :start]
    since_end = np.full(batch, -1)
    logits = session.prefill([prompt[: len(prompt) - delay] for prompt in prompts])
    while True:
        at = history.shape[1]
        row = np.empty((batch, config.channels), np.int64)
        for channel, scores in enumerate(logits):
            scores = scores.astype(np.float32)
            if restrict is not None:
                restrict(at, channel, scores)
            if channel == 0 and at <= total:
                scores[:, config.speech_eos] = -np.inf
            if channel > 0 and at + 1 > start + channel:
                scores[:, config.speech_pad_token] = -np.inf
            for one in range(batch):
                heard = history[one, :, channel]
                row[one, channel] = choose(scores[one], heard, sampling[one][channel], draws[one])
        if at < total:
            behind = np.arange(config.channels) > at - start
            row[:, behind] = forced[:, at, behind]
        _drain(row, since_end, config)
        first, last = config.speech_tokens
        ending = (since_end < 0) & ((row[:, 0] < first) | (row[:, 0] >= last))
        since_end = np.where(ending, 0, np.where(since_end >= 0, since_end + 1, since_end))
        history = np.concatenate([history, row[:, None]], axis=1)
        yield row, since_end >= 0
        # The row of the end and the drain together are as many rows as the last channel is late.
        if (since_end >= delay - 1).all() or history.shape[1] >= limit:
            return
        logits = session.step(row)


def _drain(row: np.ndarray, since_end: np.ndarray, config: AsteroidConfig) -> None:
    """Overwrites what ended sequences say: channel 0 at once, the others as their last frame has passed."""
    for one in np.flatnonzero(since_end >= 0):
        passed = np.arange(config.channels) <= since_end[one] + 1
        row[one, passed] = config.speech_pad_token
        row[one, 0] = config.eos_token_id


def choose(logits: np.ndarray, heard: np.ndarray, sampling: ChannelSampling, draw: Draw) -> int:
    """The next id of a channel: penalty, temperature, the best k, the nucleus, then a draw.

    Args:
        logits: `[ids]` float32. heard: ids of the channel so far, the prompt's among them.
    """
    scores = logits.copy()
    if sampling.repetition_penalty != 1.0:
        known = np.unique(heard)
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
