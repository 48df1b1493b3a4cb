"""Latency and stalls of a streamed utterance from the arrival times of its chunks, and their summary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Utterance:
    """One streamed request: when it was sent, when each chunk arrived (s, any clock), and its number of samples."""

    sent: float
    arrivals: tuple[float, ...]
    samples: tuple[int, ...]

    def first_audio(self) -> float:
        """Return the seconds from the request to its first chunk."""
        return self.arrivals[0] - self.sent

    def elapsed(self) -> float:
        """Return the seconds from the request to its last chunk."""
        return self.arrivals[-1] - self.sent

    def audio(self, rate: int) -> float:
        """Return the seconds of speech."""
        return sum(self.samples) / rate

    def gaps(self) -> list[float]:
        """Return the seconds between one chunk and the next."""
        return np.diff(self.arrivals).tolist()

    def stall(self, rate: int) -> float:
        """Return the seconds of silence in a player that starts at the first chunk; 0 without underruns."""
        played = self.arrivals[0] + np.concatenate([[0.0], np.cumsum(self.samples)[:-1]]) / rate
        return float(max(0.0, (np.asarray(self.arrivals) - played).max()))


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Return P50, P90, P99 and mean; a percentile is the smallest value that at least that share does not exceed."""
    ordered = np.asarray(values, float)
    found = {f"p{share}": float(np.percentile(ordered, share, method="inverted_cdf")) for share in (50, 90, 99)}
    return found | {"mean": float(ordered.mean())}


def summarise(utterances: Sequence[Utterance], wall: float, rate: int, errors: int = 0) -> dict[str, object]:
    """Return one load level in numbers, times in seconds.

    Args:
        utterances: those with audio. wall: seconds the level took. rate: samples per second.
    """
    found: dict[str, object] = {"requests": len(utterances), "errors": errors, "wall": wall}
    if utterances:
        audio = sum(utterance.audio(rate) for utterance in utterances)
        gaps = [gap for utterance in utterances for gap in utterance.gaps()]
        found |= {
            "first_audio": percentiles([utterance.first_audio() for utterance in utterances]),
            "between_chunks": percentiles(gaps) if gaps else None,
            "real_time_factor": percentiles([utterance.elapsed() / utterance.audio(rate) for utterance in utterances]),
            "stall": percentiles([utterance.stall(rate) for utterance in utterances]),
            "audio_seconds": audio,
            "audio_seconds_per_second": audio / wall,
        }
    return found
