"""Reference recordings read from files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tritone.audio.reference import EMPTY, check_rate, check_reference
from tritone.audio.resample import resample
from tritone.audio.wav import read_samples
from tritone.errors import InvalidRequest, TritoneError
from tritone.families.moss_ttsd.codec.config import INPUT_RATE


def read_recording(source: str | Path | bytes, field: str = "reference_wav") -> np.ndarray:
    """Return the recording as a request sends it: float32 `[samples]` at 16 kHz, channels averaged, resampled.

    Args:
        source: a path or a file's bytes (wav, flac, ogg, mp3).
        field: the name of the recording in errors.

    Raises:
        InvalidRequest: the file is missing, not a sound file, sampled below 16 kHz, empty, too short or too long.
    """
    try:
        samples, rate = read_samples(source)
    except TritoneError as error:
        raise InvalidRequest(field, str(error)) from error
    if not len(samples):
        raise InvalidRequest(field, EMPTY)
    check_rate(rate, field)
    return check_reference(resample(samples, rate, INPUT_RATE), field=field)
