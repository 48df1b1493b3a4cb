"""Linear spectrograms, the posterior encoder's input, and their cache files beside the recordings.

A file is valid for one recording (by size and modification time) and one set of parameters; otherwise it is ignored.
"""

from __future__ import annotations

import logging
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from training.bert_vits2.data.arrays import read_array, write_array
from training.bert_vits2.data.recording import read_recording
from training.core.losses import MelSpectrogram
from tritone.audio.mel import MelConfig
from tritone.errors import ArtifactError
from tritone.families.bert_vits2.config import DataConfig

LOG = logging.getLogger("training")
FLOOR = 1e-6
"""Added to the power before the square root."""


def linear_spectrogram(path: Path, wav: np.ndarray, data: DataConfig) -> Tensor:
    """Return the magnitudes of the samples read from `path`, float32 `[filter_length / 2 + 1, frames]`.

    There are samples // hop_length frames: both ends are mirrored by (filter_length - hop_length) / 2 samples.

    Args:
        wav: `[samples]` in -1..1.

    Raises:
        ArtifactError: there are too few samples to mirror.
    """
    padding = (data.filter_length - data.hop_length) // 2
    if len(wav) <= padding:
        raise ArtifactError(
            f"{path} has {len(wav)} samples; a spectrogram needs more than {padding}. Remove it from the filelist."
        )
    with torch.no_grad():
        spectrogram: Tensor = _transform(data.filter_length, data.hop_length, data.win_length).linear(
            torch.from_numpy(wav)[None]
        )[0]
    return spectrogram


@lru_cache(maxsize=2)
def _transform(n_fft: int, hop: int, win: int) -> MelSpectrogram:
    return MelSpectrogram(MelConfig(n_fft, 1, 2, hop, win, 0.0, None), FLOOR)  # its mel filters stay unused


def cache_path(wav: Path) -> Path:
    """Return the path of a recording's cached spectrogram: `x.wav` -> `x.spec.npz`."""
    return wav.with_suffix(".spec.npz")


def cached_spectrogram(wav: Path, data: DataConfig) -> Tensor | None:
    """Return a recording's cached spectrogram; None if it is missing, damaged or outdated.

    Raises:
        OSError: the recording is missing.
    """
    try:
        array = read_array(cache_path(wav), _key(wav, data))
    except ArtifactError as error:
        LOG.warning("%s It is computed again.", error)
        return None
    return None if array is None else torch.from_numpy(array)


def make_spectrogram(wav: Path, data: DataConfig) -> bool:
    """Compute and cache a recording's spectrogram; return False if it was cached already.

    Raises:
        ArtifactError: the recording is unusable or too short.
        EnvironmentProblem: the disk is full.
    """
    if wav.is_file() and cached_spectrogram(wav, data) is not None:
        return False
    keep_spectrogram(wav, linear_spectrogram(wav, read_recording(wav, data.sampling_rate), data), data)
    return True


def keep_spectrogram(wav: Path, spectrogram: Tensor, data: DataConfig) -> None:
    """Write the spectrogram of a recording beside it, atomically."""
    write_array(cache_path(wav), spectrogram.numpy(), _key(wav, data))


def _key(wav: Path, data: DataConfig) -> dict[str, object]:
    about, names = wav.stat(), ("sampling_rate", "filter_length", "hop_length", "win_length")
    return {name: getattr(data, name) for name in names} | {"bytes": about.st_size, "changed_ns": about.st_mtime_ns}
