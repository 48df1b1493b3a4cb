"""Recordings as training wants them: mono, at the model's sample rate, with samples in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tritone.errors import ArtifactError


def samples_in(path: Path, rate: int) -> int:
    """Return how many samples the recording has, from its header alone; errors as `read_recording`."""
    import soundfile

    try:
        info = soundfile.info(str(path))
    except (soundfile.LibsndfileError, OSError) as error:
        raise _unreadable(path, error) from error
    _check(path, int(info.samplerate), int(info.channels), int(info.frames), rate)
    return int(info.frames)


def read_recording(path: Path, rate: int) -> np.ndarray:
    """Return its samples, float32 `[samples]` in -1..1.

    Raises:
        ArtifactError: no such file, not a sound file, empty, not mono, or at another rate than `rate`; the message
            names the file and the command that makes it right.
    """
    import soundfile

    try:
        samples, found = soundfile.read(str(path), dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise _unreadable(path, error) from error
    _check(path, int(found), samples.shape[1], len(samples), rate)
    mono: np.ndarray = samples[:, 0]
    return mono


def _check(path: Path, found: int, channels: int, samples: int, rate: int) -> None:
    command = f"`python -m training.bert_vits2.preprocess resample --in FOLDER --out FOLDER --rate {rate}`"
    if samples == 0:
        raise ArtifactError(f"{path} has no samples: record it again, or take it out of the filelist.")
    if found != rate:
        raise ArtifactError(f"{path} is sampled at {found} Hz, the model wants {rate} Hz. Run {command}.")
    if channels != 1:
        raise ArtifactError(f"{path} has {channels} channels, the model wants one. Run {command}.")


def _unreadable(path: Path, error: Exception) -> ArtifactError:
    if not path.is_file():
        return ArtifactError(
            f"there is no recording {path}; paths in a filelist are relative to the folder you run in. Correct the "
            "filelist, or run `python -m training.bert_vits2.preprocess clean` again, which leaves such lines out."
        )
    return ArtifactError(f"{path} is not a sound file that can be read (wav, flac, ogg or mp3): {error}")
