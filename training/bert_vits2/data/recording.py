"""Recordings for training: mono, at the model's sample rate, and not empty."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tritone.audio.wav import read_samples
from tritone.errors import ArtifactError, TritoneError


def samples_in(path: Path, rate: int) -> int:
    """Return the number of samples of a recording from its header alone; errors as `read_recording`."""
    import soundfile

    try:
        info = soundfile.info(str(path))
    except (soundfile.LibsndfileError, OSError) as error:
        raise _unreadable(path, error) from error
    _check(path, int(info.samplerate), int(info.channels), int(info.frames), rate)
    return int(info.frames)


def read_recording(path: Path, rate: int) -> np.ndarray:
    """Return the samples of a recording, float32 `[samples]` in -1..1.

    Raises:
        ArtifactError: the file is missing, not a sound file, empty, not mono, or at another rate than `rate`; the
            message has the command that corrects it.
    """
    import soundfile

    try:
        info = soundfile.info(str(path))
        samples, own_rate = read_samples(path)
    except (TritoneError, soundfile.SoundFileError, OSError) as error:
        raise _unreadable(path, error) from error
    _check(path, own_rate, int(info.channels), len(samples), rate)
    return samples


def _check(path: Path, own_rate: int, channels: int, samples: int, rate: int) -> None:
    command = f"`python -m training.bert_vits2.preprocess resample --in FOLDER --out FOLDER --rate {rate}`"
    if samples == 0:
        raise ArtifactError(f"{path} has no samples: record it again, or remove it from the filelist.")
    if own_rate != rate:
        raise ArtifactError(f"{path} is sampled at {own_rate} Hz; the model needs {rate} Hz. Run {command}.")
    if channels != 1:
        raise ArtifactError(f"{path} has {channels} channels; the model needs one. Run {command}.")


def _unreadable(path: Path, error: Exception) -> ArtifactError:
    if not path.is_file():
        return ArtifactError(
            f"the recording {path} is missing; paths in a filelist are relative to the current folder. Correct the "
            "filelist, or run `python -m training.bert_vits2.preprocess clean` again, which drops such lines."
        )
    return ArtifactError(f"{path} is not a sound file that can be read (wav, flac, ogg or mp3): {error}")
