"""The posterior encoder's input, the linear spectrogram, and the files that keep it beside the recordings.

A file belongs to one recording (its size and time of change) and one set of parameters; any other is as good as none.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from training.bert_vits2.arrays import read_array, write_array
from training.bert_vits2.recording import read_recording
from tritone.errors import ArtifactError, ConfigError

LOG = logging.getLogger("training")
SUFFIX = ".spec.npz"


@dataclass(frozen=True)
class SpectrogramSettings:
    """Sample rate in Hz; transform, hop and window in samples. Defaults are the published ones."""

    rate: int = 44100
    n_fft: int = 2048
    hop: int = 512
    window: int = 2048

    def __post_init__(self) -> None:
        if not 0 < self.hop <= self.window <= self.n_fft or (self.n_fft - self.hop) % 2 or self.rate < 1:
            raise ConfigError(
                f"{self} cannot be: it needs 0 < hop_length <= win_length <= filter_length, filter_length - hop_length "
                "even, and a sample rate."
            )

    @staticmethod
    def of(data: Mapping[str, object]) -> SpectrogramSettings:
        """The settings in the `data` section of a configuration of the published form."""
        names = {"rate": "sampling_rate", "n_fft": "filter_length", "hop": "hop_length", "window": "win_length"}
        missing = [name for name in names.values() if name not in data]
        if missing:
            raise ConfigError(f"the configuration's data section has no {', '.join(missing)}.")
        return SpectrogramSettings(**{field: int(str(data[name])) for field, name in names.items()})

    @staticmethod
    def from_file(config: Path) -> SpectrogramSettings:
        """The settings in a configuration file of the published form (JSON)."""
        return SpectrogramSettings.of(read_config(config)["data"])

    @property
    def padding(self) -> int:
        """Samples mirrored at both ends; a recording must have more than that."""
        return (self.n_fft - self.hop) // 2

    def frames(self, samples: int) -> int:
        """Frames in the spectrogram of so many samples."""
        return samples // self.hop


def read_config(path: Path) -> dict:  # type: ignore[type-arg]
    """A configuration of the published form, a JSON object with a `data` section."""
    if not path.is_file():
        raise ConfigError(f"there is no configuration {path}.")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON: {error}") from error
    if not isinstance(config, dict) or not isinstance(config.get("data"), dict):
        raise ConfigError(f'{path} has no section "data".')
    return config


def linear_spectrogram(wav: Tensor, settings: SpectrogramSettings) -> Tensor:
    """Magnitudes `[n_fft / 2 + 1, frames]`, `frames = samples // hop`, float32.

    The signal is mirrored by (n_fft - hop) / 2 at both ends; sqrt(re^2 + im^2 + 1e-6) under a periodic Hann window, as
    in HiFi-GAN (Kong et al., 2020) with this model's floor.

    Args:
        wav: `[samples]` in -1..1, more than `settings.padding` of them.
    """
    padded = F.pad(wav.float()[None, None], (settings.padding, settings.padding), mode="reflect")[0]
    window = _window(settings.window)
    spectrum = torch.stft(
        padded, settings.n_fft, settings.hop, settings.window, window, center=False, return_complex=True
    )[0]
    return (spectrum.real.square() + spectrum.imag.square() + 1e-6).sqrt()


@lru_cache(maxsize=4)
def _window(size: int) -> Tensor:
    return torch.hann_window(size)


def cache_path(wav: Path) -> Path:
    """Where the spectrogram of a recording is kept: `x.wav` -> `x.spec.npz`."""
    return wav.with_suffix(SUFFIX)


def cached_spectrogram(wav: Path, settings: SpectrogramSettings) -> Tensor | None:
    """The recording's kept spectrogram `[n_fft / 2 + 1, frames]`; None when it is absent, damaged or of anything else.

    Raises:
        OSError: the recording is gone.
    """
    try:
        array = read_array(cache_path(wav), _key(wav, settings))
    except ArtifactError as error:
        LOG.warning("%s: computing it again", error)
        return None
    return None if array is None else torch.from_numpy(array)


def make_spectrogram(wav: Path, settings: SpectrogramSettings) -> bool:
    """Whether the recording's spectrogram had to be computed (and is kept now), or was there already.

    Raises:
        ArtifactError: the recording is unusable or too short. EnvironmentProblem: the disk is full.
    """
    if wav.is_file() and cached_spectrogram(wav, settings) is not None:
        return False
    keep_spectrogram(wav, spectrogram_of(wav, read_recording(wav, settings.rate), settings), settings)
    return True


def spectrogram_of(path: Path, wav: np.ndarray, settings: SpectrogramSettings) -> Tensor:
    """`linear_spectrogram` of the samples read from `path`; ArtifactError when they are too few."""
    if len(wav) <= settings.padding:
        raise ArtifactError(
            f"{path} has {len(wav)} samples; a spectrogram needs more than {settings.padding}. "
            "Take it out of the filelist."
        )
    return linear_spectrogram(torch.from_numpy(wav), settings)


def keep_spectrogram(wav: Path, spectrogram: Tensor, settings: SpectrogramSettings) -> None:
    """Writes the spectrogram of a recording beside it, atomically."""
    write_array(cache_path(wav), spectrogram.numpy(), _key(wav, settings))


def _key(wav: Path, settings: SpectrogramSettings) -> dict[str, object]:
    about = wav.stat()
    return asdict(settings) | {"bytes": about.st_size, "changed_ns": about.st_mtime_ns}
