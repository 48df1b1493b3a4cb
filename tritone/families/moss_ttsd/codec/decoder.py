"""From code vectors to sound: upsampling, a mirrored Whisper encoder that ends in mel-like frames, and Vocos.

Frames past a row's length are zeroed wherever a convolution could carry them back into the row, so a row of a ragged
batch gives the same result as alone.
Source of the vocoder: Siuzdak, "Vocos" (2023).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tritone.families.moss_ttsd.codec.config import MEL_CHANNELS, StackConfig
from tritone.families.moss_ttsd.codec.layers import Stack
from tritone.nn.stft import InverseStft, length_mask

LARGEST_MAGNITUDE = 100.0


class Upsample(nn.Module):
    """Turns each vector of `[batch, codes, pool x size]` into `pool` frames, `[batch, pool x codes, size]`."""

    def __init__(self, size: int, pool: int) -> None:
        super().__init__()
        self.up_conv = nn.ConvTranspose1d(size * pool, size, pool, stride=pool, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.up_conv(x.transpose(1, 2)).transpose(1, 2)


class AudioDecoder(Stack):
    """Turns hidden frames `[batch, frames, size]` at 50 Hz into mel-like frames `[batch, 80, 2 x frames]` at 100 Hz."""

    def __init__(self, config: StackConfig) -> None:
        super().__init__(config)
        self.deconv1 = nn.ConvTranspose1d(config.size, config.size, 3, stride=2)
        self.deconv2 = nn.ConvTranspose1d(config.size, MEL_CHANNELS, 3)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return the mel-like frames; `lengths` `[batch]` counts hidden frames.

        The transposed convolutions only look back, so their surplus at the end is cut off.
        """
        y = self.transform(x, lengths).transpose(1, 2)
        return F.gelu(self.deconv2(F.gelu(self.deconv1(y))))[:, :, :-3]


class ConvNeXtBlock(nn.Module):
    """A depthwise convolution over 7 frames and a two-layer perceptron, scaled and added (Liu et al., 2022)."""

    def __init__(self, size: int, inner: int, layers: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv1d(size, size, 7, padding=3, groups=size)
        self.norm = nn.LayerNorm(size, eps=1e-6)
        self.pwconv1 = nn.Linear(size, inner)
        self.pwconv2 = nn.Linear(inner, size)
        self.gamma = nn.Parameter(torch.full((size,), 1.0 / layers))

    def forward(self, x: Tensor, inside: Tensor) -> Tensor:
        """Return `[batch, frames, size]`; `inside` `[batch, 1, frames]` is 1 where a frame exists."""
        y = self.norm(self.dwconv(x.transpose(1, 2) * inside).transpose(1, 2))
        return x + self.gamma * self.pwconv2(F.gelu(self.pwconv1(y)))


class Backbone(nn.Module):
    """Turns mel-like frames `[batch, 80, frames]` into features `[batch, frames, size]`."""

    def __init__(self, size: int, inner: int, layers: int) -> None:
        super().__init__()
        self.embed = nn.Conv1d(MEL_CHANNELS, size, 7, padding=3)
        self.norm = nn.LayerNorm(size, eps=1e-6)
        self.convnext = nn.ModuleList(ConvNeXtBlock(size, inner, layers) for _ in range(layers))
        self.final_layer_norm = nn.LayerNorm(size, eps=1e-6)

    def forward(self, mel: Tensor, inside: Tensor) -> Tensor:
        x = self.norm(self.embed(mel * inside).transpose(1, 2))
        for block in self.convnext:
            x = block(x, inside)
        return self.final_layer_norm(x)


class Synthesis(InverseStft):
    """The inverse transform that gives every frame a hop of samples; checkpoints contain its window."""

    def __init__(self, n_fft: int, hop: int) -> None:
        super().__init__(n_fft, hop, (n_fft - hop) // 2)
        self.register_buffer("window", torch.hann_window(n_fft))


class Head(nn.Module):
    """Turns features into samples through the magnitude and the phase of a short-time spectrum."""

    full_precision = True

    def __init__(self, size: int, n_fft: int, hop: int) -> None:
        super().__init__()
        self.out = nn.Linear(size, n_fft + 2)
        self.istft = Synthesis(n_fft, hop)

    def forward(self, x: Tensor, frames: Tensor) -> Tensor:
        """Return samples `[batch, hop x frames]`, zero past the number of `frames` `[batch]` of each row."""
        magnitude, phase = self.out(x.float()).transpose(1, 2).chunk(2, dim=1)
        return self.istft(magnitude.exp().clamp(max=LARGEST_MAGNITUDE), phase, frames)


class Vocos(nn.Module):
    """Turns mel-like frames `[batch, 80, frames]` into samples `[batch, hop x frames]`."""

    def __init__(self, size: int, inner: int, layers: int, n_fft: int, hop: int) -> None:
        super().__init__()
        self.backbone = Backbone(size, inner, layers)
        self.head = Head(size, n_fft, hop)

    def forward(self, mel: Tensor, frames: Tensor) -> Tensor:
        return self.head(self.backbone(mel, length_mask(frames, mel)), frames)
