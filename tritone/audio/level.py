"""Checks of recordings and answers: neither may be empty, not finite, far beyond full scale, or silent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from tritone.errors import TritoneError

LOWEST_RATE = 16000
"""The lowest sample rate of a recording; below it the consonants that the models rely on are missing."""
LOUDEST = 2.0
"""The largest sample: sound that was decoded or generated may pass 1 by some tenths, numbers of 16 bits reach 32768."""
SILENCE_PEAK = 1e-3
"""A recording whose peak stays below this (-60 dB of full scale) carries no voice."""
SOUNDING = 0.1
"""Seconds of a recording that must be above that peak, in frames of 20 ms: a click or a hum that ends is no voice."""
SILENT_ANSWER = 1e-4
"""An answer whose peak stays below this (-80 dB, three steps of 16 bits) holds nothing to hear."""
NOT_FINITE = "has NaN or infinite numbers"
NO_SOUND = "has no samples, though speech was asked for"
REMEDY = "`tritone parity` finds the network at fault"


def rate_problem(rate: int) -> str:
    """Return the problem of a recording's sample rate, "" if it is high enough for speech."""
    return "" if rate >= LOWEST_RATE else f"is sampled at {rate} Hz; record it at {LOWEST_RATE} Hz or more"


def recording_problem(samples: np.ndarray, rate: int) -> str:
    """Return the problem of a recording that carries no voice, "" for any other.

    Args:
        samples: `[samples]` float at `rate`. A constant offset counts as silence.
    """
    if not len(samples):
        return "is empty: it has no samples"
    if not np.isfinite(samples).all():
        return "contains NaN or infinite samples"
    peak = float(np.abs(samples).max())
    if peak > LOUDEST:
        return (
            f"reaches {peak:g}, but samples lie between -1 and 1; if these are numbers of 16 bits, divide them by 32768"
        )
    sound = np.abs(samples - samples.mean(dtype=np.float64))
    if sound.max() < SILENCE_PEAK:
        return f"is silent: no sample exceeds {SILENCE_PEAK:g} of full scale"
    frame = max(1, rate // 50)
    peaks = np.maximum.reduceat(sound, np.arange(0, len(sound), frame))
    seconds = np.count_nonzero(peaks >= SILENCE_PEAK) * frame / rate
    if seconds < min(SOUNDING, len(sound) / rate / 2):
        return (
            f"is nearly silent: {seconds:.2f} s of it exceed {SILENCE_PEAK:g} of full scale; speech needs {SOUNDING:g}"
        )
    return ""


def answer_problem(wave: np.ndarray, whole: bool = True) -> str:
    """Return the problem of a waveform, "" for speech: NaN, a level beyond full scale and, if whole, silence."""
    if not np.isfinite(wave).all():
        return NOT_FINITE
    peak = float(np.abs(wave).max(initial=0))
    if peak > LOUDEST:
        return f"reaches {peak:g}, where full scale is 1 and at most {LOUDEST:g} is sent"
    if not whole:
        return ""
    if not wave.size:
        return NO_SOUND
    return silence(peak)


def silence(peak: float) -> str:
    """Return the problem of a whole answer with that peak if it is silent, otherwise ""."""
    if peak >= SILENT_ANSWER:
        return ""
    return f"is silent: no sample exceeds {SILENT_ANSWER:g} of full scale, though speech was asked for"


def checked_waveform(wave: np.ndarray) -> np.ndarray:
    """Return a whole answer's waveform; raise TritoneError if it cannot be speech."""
    if problem := answer_problem(wave):
        raise TritoneError(f"the answer's waveform {problem}, so it is not sent; {REMEDY}")
    return wave


def checked_chunks(chunks: Iterable[np.ndarray], cancelled: Callable[[], bool] = lambda: False) -> Iterator[np.ndarray]:
    """Yield the chunks of a stream; raise TritoneError in place of one that cannot be sent, and after silence.

    Args:
        cancelled: whether the listener has left, so that the stream may end anywhere.
    """
    peak, count = 0.0, 0
    for chunk in chunks:
        if problem := answer_problem(chunk, whole=False):
            raise TritoneError(f"the next chunk {problem}, so it is not sent, and the stream ends; {REMEDY}")
        peak, count = max(peak, float(np.abs(chunk).max(initial=0))), count + chunk.size
        yield chunk
    if cancelled():
        return
    problem = silence(peak) if count else NO_SOUND
    if problem:
        raise TritoneError(f"the stream {problem}; {REMEDY}")
