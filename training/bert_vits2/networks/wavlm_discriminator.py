"""The features of a speech model for a wave, and a discriminator of these features.

Source: Chen et al., "WavLM" (2022) for the model; Li et al., "StyleTTS 2" (2023) for the discriminator.
"""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.core.discriminators import SLOPE
from tritone.audio.resample import sinc_kernels
from tritone.checkpoint.documents import read_object
from tritone.checkpoint.sizes import check_transformer
from tritone.errors import CheckpointError, ConfigError
from tritone.nn.weight_norm import weight_norm


class Resample(nn.Module):
    """Resamples `[batch, samples]` from `from_rate` to `to_rate`: `tritone.audio.resample` in torch, with gradients."""

    kernels: Tensor

    def __init__(self, from_rate: int, to_rate: int) -> None:
        super().__init__()
        divisor = math.gcd(from_rate, to_rate)
        self.step, self.phases = from_rate // divisor, to_rate // divisor
        kernels, self.reach = sinc_kernels(self.step, self.phases)
        self.register_buffer("kernels", torch.from_numpy(kernels.astype(np.float32))[:, None], persistent=False)

    def forward(self, wave: Tensor) -> Tensor:
        if self.step == self.phases:
            return wave
        with torch.autocast(wave.device.type, enabled=False):  # samples of eight bits would be noisy
            padded = F.pad(wave.float()[:, None], (self.reach, self.reach + self.step))
            resampled = F.conv1d(padded, self.kernels, stride=self.step).mT.flatten(1)
        return resampled[:, : -(-wave.shape[1] * self.phases // self.step)]


class WavLM(nn.Module):
    """Returns all hidden states `[batch, layers, frames, hidden]` of a frozen WavLM for waves at the voice's rate.

    Its weights are not trained and not stored in checkpoints; gradients pass through it to the wave.

    Args:
        model: a `transformers.WavLMModel`.
        rate: sampling rate of the waves in Hz.
        model_rate: sampling rate of the model.
    """

    def __init__(self, model: Any, rate: int, model_rate: int = 16000) -> None:
        super().__init__()
        self.resample = Resample(rate, model_rate)
        self.model = model.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> WavLM:
        """Keep eval mode: with dropout and masking, equal waves would have different features."""
        return self

    def forward(self, wave: Tensor) -> Tensor:
        """Return the hidden states of waves `[batch, samples]`, which are not normalised.

        Raises:
            ConfigError: the waves are too short for one frame (400 samples at 16 kHz).
        """
        resampled = self.resample(wave)
        places = resampled.shape[1]
        for kernel, stride in zip(self.model.config.conv_kernel, self.model.config.conv_stride, strict=True):
            places = (places - kernel) // stride + 1
        if places < 1:
            raise ConfigError(
                f"slices of {wave.shape[1]} samples are {resampled.shape[1]} at WavLM's rate, too few for a frame; "
                "raise train.segment_size, or train without the WavLM loss."
            )
        return torch.stack(self.model(resampled, output_hidden_states=True).hidden_states, dim=1)


def load_wavlm(folder: Path, rate: int) -> WavLM:
    """Return the WavLM in a local Hugging Face folder (`config.json` and weights), for waves at `rate` Hz.

    Raises:
        CheckpointError: the folder is missing or has another kind of model, or weights are missing.
    """
    from transformers import WavLMModel

    if not (folder / "config.json").is_file():
        raise CheckpointError(
            f"no WavLM in {folder}: config.json is missing. Download microsoft/wavlm-base-plus into that folder, or "
            "train without the WavLM loss."
        )
    settings = read_object(folder / "config.json", kind=CheckpointError)
    check_transformer(settings, str(folder / "config.json"), CheckpointError)
    kind = settings.get("model_type")
    if kind != "wavlm":
        raise CheckpointError(f"{folder} has a {kind!r} model, not a WavLM.")
    try:
        loaded: Any = WavLMModel.from_pretrained(folder, local_files_only=True, output_loading_info=True)
    except Exception as error:  # a foreign folder can make the library fail in any way
        raise CheckpointError(f"{folder} cannot be read as a WavLM: {error}") from error
    model, report = loaded
    missing = sorted(report["missing_keys"])
    if missing:
        raise CheckpointError(f"{folder} lacks {len(missing)} of WavLM's weights: {', '.join(missing[:5])}")
    return WavLM(model, rate)


class WavLMDiscriminator(nn.Module):
    """Returns scores `[batch, frames]` of hidden states `[batch, layers, frames, hidden]`.

    Args:
        hidden, layers: width and number of WavLM's hidden states.
        width: channels of the first layer; the others have multiples of it.
    """

    def __init__(self, hidden: int = 768, layers: int = 13, width: int = 64) -> None:
        super().__init__()
        self.pre = weight_norm(nn.Conv1d(hidden * layers, width, 1))
        widths = (width, 2 * width, 4 * width, 4 * width)
        self.convs = nn.ModuleList(weight_norm(nn.Conv1d(a, b, 5, padding=2)) for a, b in pairwise(widths))
        self.conv_post = weight_norm(nn.Conv1d(widths[-1], 1, 3, padding=1))

    def forward(self, states: Tensor) -> Tensor:
        x = self.pre(states.mT.flatten(1, 2))
        for conv in self.convs:
            x = F.leaky_relu(conv(x), SLOPE)
        return self.conv_post(x).flatten(1)
