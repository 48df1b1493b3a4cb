"""What a listener waits for, from the arrival times of an utterance's chunks; and how a load test sums that up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Utterance:
    """One streamed request: when it was sent, when each chunk came (s, any clock), and how many samples it held."""

    sent: float
    arrivals: tuple[float, ...]
    samples: tuple[int, ...]

    def first_audio(self) -> float:
        """Return seconds from the request to its first chunk."""
        return self.arrivals[0] - self.sent

    def elapsed(self) -> float:
        """Return seconds from the request to its last chunk."""
        return self.arrivals[-1] - self.sent

    def audio(self, rate: int) -> float:
        """Return seconds of speech."""
        return sum(self.samples) / rate

    def gaps(self) -> list[float]:
        """Return seconds between one chunk and the next."""
        return np.diff(self.arrivals).tolist()

    def stall(self, rate: int) -> float:
        """Return seconds of silence a listener hears who starts playing at the first chunk.

        0 when audio always was ahead.
        """
        played = self.arrivals[0] + np.concatenate([[0.0], np.cumsum(self.samples)[:-1]]) / rate
        return float(max(0.0, (np.asarray(self.arrivals) - played).max()))


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Return the p50, P90, P99 and mean; the percentile is the smallest value that at least that share does not
    exceed.
    """
    ordered = np.asarray(values, float)
    found = {f"p{share}": float(np.percentile(ordered, share, method="inverted_cdf")) for share in (50, 90, 99)}
    return found | {"mean": float(ordered.mean())}


def summarise(utterances: Sequence[Utterance], wall: float, rate: int, errors: int = 0) -> dict[str, object]:
    """Return one load level in numbers, times in seconds.

    Args:
        utterances: those that gave audio. wall: seconds the level took. rate: samples per second.
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
