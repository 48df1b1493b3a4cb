"""Checks that a reference recording carries a voice that a model can use."""

from __future__ import annotations

import numpy as np

from tritone.audio.level import rate_problem as rate_problem
from tritone.audio.level import recording_problem
from tritone.errors import InvalidRequest

REFERENCE_SECONDS = (0.5, 30.0)
"""The shortest and longest reference recording; the published speech tokenizer accepts at most 30 s."""
EMPTY = f"is empty: it has no samples; send a recording of {REFERENCE_SECONDS[0]:g} s or more, or leave it out"


def check_rate(rate: int, field: str = "reference_wav") -> None:
    """Raise InvalidRequest when a recording's sample rate is too low for speech."""
    if problem := rate_problem(rate):
        raise InvalidRequest(field, problem)


def check_reference(
    wav: np.ndarray, wav_len: np.ndarray | int | None = None, rate: int = 16000, field: str = "reference_wav"
) -> np.ndarray:
    """Return the valid part of a request's reference recording, float32 `[samples]`.

    Raises InvalidRequest naming `field` when the recording has a wrong type or shape, is empty, too short, too long,
    silent or far beyond full scale, or contains NaN.

    Args:
        wav: `[samples]` or `[1, samples]` float32 at `rate`.
        wav_len: the number of valid samples, as a number or an array that holds one.
        field: the request's name for the recording.
    """
    if wav.dtype != np.float32:
        raise InvalidRequest(field, f"must be float32 (FP32) samples in -1..1, got {wav.dtype}")
    if wav.ndim not in (1, 2) or (wav.ndim == 2 and wav.shape[0] != 1):
        raise InvalidRequest(field, f"must have shape [1, samples], got {list(wav.shape)}")
    samples = wav.reshape(-1)
    if wav_len is not None:
        lengths = np.asarray(wav_len).reshape(-1)
        if lengths.size != 1 or not 0 <= int(lengths[0]) <= len(samples):
            given = int(lengths[0]) if lengths.size == 1 else lengths.tolist()
            raise InvalidRequest(f"{field}_len", f"must be one number from 1 to {len(samples)} samples, got {given}")
        samples = samples[: int(lengths[0])]
    if not len(samples):
        raise InvalidRequest(field, EMPTY)
    seconds, (shortest, longest) = len(samples) / rate, REFERENCE_SECONDS
    if seconds < shortest:
        raise InvalidRequest(field, f"too short: {seconds:.2f} s at {rate} Hz, need at least {shortest:g} s")
    if seconds > longest:
        raise InvalidRequest(field, f"too long: {seconds:.2f} s at {rate} Hz, the limit is {longest:g} s")
    if problem := recording_problem(samples, rate):
        raise InvalidRequest(field, problem)
    return samples
