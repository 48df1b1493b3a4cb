"""The posterior encoder's input, the linear spectrogram, and the files that keep it beside the recordings.

A file belongs to one recording (its size and time of change) and one set of parameters; any other is as good as none.
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
"""What is added to the power before its root."""


def linear_spectrogram(path: Path, wav: np.ndarray, data: DataConfig) -> Tensor:
    """Magnitudes of the samples read from `path`, float32 `[filter_length / 2 + 1, frames]`.

    There are samples // hop_length frames: the signal is mirrored by (filter_length - hop_length) / 2 at both ends.

    Args:
        wav: `[samples]` in -1..1.

    Raises:
        ArtifactError: fewer samples than the mirror needs.
    """
    padding = (data.filter_length - data.hop_length) // 2
    if len(wav) <= padding:
        raise ArtifactError(
            f"{path} has {len(wav)} samples; a spectrogram needs more than {padding}. Take it out of the filelist."
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
    """Where the spectrogram of a recording is kept: `x.wav` -> `x.spec.npz`."""
    return wav.with_suffix(".spec.npz")


def cached_spectrogram(wav: Path, data: DataConfig) -> Tensor | None:
    """Return the recording's kept spectrogram; None when it is absent, damaged, of an older recording or other
    parameters.

    Raises:
        OSError: the recording is gone.
    """
    try:
        array = read_array(cache_path(wav), _key(wav, data))
    except ArtifactError as error:
        LOG.warning("%s It is computed again.", error)
        return None
    return None if array is None else torch.from_numpy(array)


def make_spectrogram(wav: Path, data: DataConfig) -> bool:
    """Return whether the recording's spectrogram had to be computed (and is kept now), or was there already.

    Raises:
        ArtifactError: the recording is unusable or too short. EnvironmentProblem: the disk is full.
    """
    if wav.is_file() and cached_spectrogram(wav, data) is not None:
        return False
    keep_spectrogram(wav, linear_spectrogram(wav, read_recording(wav, data.sampling_rate), data), data)
    return True


def keep_spectrogram(wav: Path, spectrogram: Tensor, data: DataConfig) -> None:
    """Writes the spectrogram of a recording beside it, atomically."""
    write_array(cache_path(wav), spectrogram.numpy(), _key(wav, data))


def _key(wav: Path, data: DataConfig) -> dict[str, object]:
    about, names = wav.stat(), ("sampling_rate", "filter_length", "hop_length", "win_length")
    return {name: getattr(data, name) for name in names} | {"bytes": about.st_size, "changed_ns": about.st_mtime_ns}
