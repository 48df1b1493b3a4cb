"""Repetition-aware sampling (VALL-E 2, Chen et al. 2024) and the decoding loop every engine shares, in NumPy.

The random draw is a function handed in, so a seeded generator, a test's recorded draws or another library's sampler all
fit: `draw(probabilities) -> index`, where the probabilities `[n]` are positive and need not sum to one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from tritone.errors import InvalidRequest, TritoneError
from tritone.lm.protocols import TokenSession
from tritone.lm.rules import SamplingConfig, SpeechRules

Draw = Callable[[np.ndarray], int]
"""`draw(probabilities [n]) -> index`, in proportion to the probabilities."""


def seeded_draw(seed: int) -> Draw:
    """Return a draw from a NumPy generator of its own: the same seed gives the same tokens on every machine."""
    rng = np.random.default_rng(seed)

    def draw(probabilities: np.ndarray) -> int:
        cumulative = np.cumsum(probabilities, dtype=np.float64)
        return int(min(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"), len(cumulative) - 1))

    return draw


def greedy_draw(probabilities: np.ndarray) -> int:
    """Return the most probable index, the first among equals."""
    return int(np.argmax(probabilities))


def check_scores(scores: np.ndarray) -> None:
    """Raise TritoneError unless there is an id to choose: NaN and infinite scores are no choice, nor is -inf alone."""
    if not scores.size or not np.isfinite(scores.max()):
        raise TritoneError(
            "the language model's scores are NaN or infinite, or exclude every id, so no id is sampled; "
            "`tritone parity` finds the network at fault"
        )


def softmax(scores: np.ndarray) -> np.ndarray:
    """Return probabilities `[n]` float32 from scores `[n]`; -inf becomes 0."""
    weights = np.exp(scores - scores.max(), dtype=np.float32)
    return weights / weights.sum(dtype=np.float32)


def sample(scores: np.ndarray, history: Sequence[int], config: SamplingConfig, draw: Draw) -> int:
    """Return the next id: a nucleus draw, replaced by a draw from all other ids when it repeats too often.

    Args:
        scores: logits or log-probabilities `[n]`; -inf excludes an id.
        history: ids so far; the last `win_size` are looked at (0 allows any repetition).

    Raises:
        TritoneError: scores are not numbers.
    """
    check_scores(scores)
    token = _nucleus(softmax(scores), config, draw)
    window = config.win_size
    if window and list(history[-window:]).count(token) >= window * config.tau_r:
        others = scores.copy()
        others[token] = -np.inf
        if np.isfinite(others).any():
            return draw(softmax(others))
    return token


def tokens(
    session: TokenSession,
    prompt: Sequence[int],
    text_length: int,
    config: SpeechRules,
    draw: Draw,
    cancelled: Callable[[], bool] = lambda: False,
    limit: int | None = None,
) -> Iterator[int]:
    """Speech codes until the model stops, `max_token_text_ratio` per text token is reached, or `cancelled()` is true.

    Before `min_token_text_ratio` per text token `config.early_ids` are excluded.

    Args:
        prompt: merged ids of [sos, text, task_id, prompt speech].
        text_length: tokens of the target text alone, which both limits count.
        limit: another upper bound on the number of codes (a runner's positions, say).
    """
    least, most = length_limits(text_length, config, limit)
    stops = frozenset(config.stop_ids)
    out: list[int] = []
    logits: np.ndarray | None = None
    while len(out) < most and not cancelled():
        logits = session.prefill(prompt) if logits is None else session.step(out[-1])
        if len(out) < least:
            logits = logits.copy()
            logits[list(config.early_ids)] = -np.inf
        token = sample(logits, out, config.sampling, draw)
        if token in stops:
            return
        out.append(token)
        yield token


def length_limits(text_length: int, config: SpeechRules, limit: int | None = None) -> tuple[int, int]:
    """Return the fewest and the most speech codes of a text; InvalidRequest when not even one fits."""
    most = int(text_length * config.max_token_text_ratio)
    most = most if limit is None else min(most, limit)
    if most < 1:
        raise InvalidRequest("target_text", f"no speech fits: {text_length} text tokens, limit {limit}")
    return int(text_length * config.min_token_text_ratio), most


def _nucleus(probabilities: np.ndarray, config: SamplingConfig, draw: Draw) -> int:
    """Return a draw from the most probable ids.

    Each is kept while those before it hold less than `top_p`, up to `top_k`.
    """
    order = np.argsort(-probabilities, kind="stable")[: config.top_k]
    kept = probabilities[order]
    before = np.concatenate((np.zeros(1, np.float32), np.cumsum(kept, dtype=np.float32)[:-1]))
    count = max(1, int((before < config.top_p).sum()))
    return int(order[draw(kept[:count])])
