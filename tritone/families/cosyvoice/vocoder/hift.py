"""HiFT: a vocoder that filters a harmonic source and synthesises through an inverse STFT.

HiFTNet (Li et al., 2023, arXiv:2309.09493) on the ISTFTNet idea (Kaneko et al., 2022): mel frames are upsampled to the
rate of a small STFT; at every rate the spectrum of an excitation made of harmonics of f0 is added, and the result is
log magnitude and phase. No layer is recurrent, so an output sample depends on a bounded number of frames.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tritone.families.cosyvoice.config.common import HiftConfig
from tritone.families.cosyvoice.vocoder.convs import CausalConvs, Convs
from tritone.families.cosyvoice.vocoder.f0_predictor import F0Network
from tritone.families.cosyvoice.vocoder.receptive_field import POST_KERNEL, source_steps
from tritone.nn.stft import InverseStft, Stft, length_mask

MAGNITUDE_LIMIT = 100.0


class Snake(nn.Module):
    """x + sin²(alpha x) / alpha per channel, a nonlinearity that extrapolates periods (Ziyin et al., 2020)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        alpha = self.alpha[:, None]
        return x + torch.sin(x * alpha).square() / (alpha + 1e-9)


class ResBlock(nn.Module):
    """Pairs of a dilated and a plain convolution, each after a Snake, each pair added to its input."""

    def __init__(self, channels: int, kernel: int, dilations: tuple[int, ...], convs: Convs) -> None:
        super().__init__()
        self.convs1 = nn.ModuleList(convs.same(channels, channels, kernel, dilation) for dilation in dilations)
        self.convs2 = nn.ModuleList(convs.same(channels, channels, kernel) for _ in dilations)
        self.activations1 = nn.ModuleList(Snake(channels) for _ in dilations)
        self.activations2 = nn.ModuleList(Snake(channels) for _ in dilations)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        layers = zip(self.activations1, self.convs1, self.activations2, self.convs2)  # noqa: B905 (strict cannot be scripted)
        for first_activation, dilated, second_activation, plain in layers:
            hidden = _inside(dilated(first_activation(x)), mask)
            x = x + _inside(plain(second_activation(hidden)), mask)
        return x


class SourceMix(nn.Module):
    """Mixes the harmonics into one excitation: `[batch, harmonics, samples]` to `[batch, 1, samples]`."""

    full_precision = True

    def __init__(self, harmonics: int) -> None:
        super().__init__()
        self.l_linear = nn.Linear(harmonics, 1)

    def forward(self, harmonics: Tensor) -> Tensor:
        return torch.tanh(torch.matmul(self.l_linear.weight, harmonics) + self.l_linear.bias)


class Hift(nn.Module):
    """The generator with its f0 network, under the keys of published checkpoints.

    If `config.causal`, only the first layers of both networks and the inverse STFT look ahead.
    """

    def __init__(self, config: HiftConfig) -> None:
        super().__init__()
        self.config = config
        self.hop, self.hops = config.hop, config.hop // config.istft_hop
        self.rates, self.slope = list(config.upsample_rates), config.lrelu_slope
        self.kernels = len(config.resblock_kernel_sizes)
        self.magnitude_limit, self.audio_limit = MAGNITUDE_LIMIT, config.audio_limit
        self.bins = config.istft_n_fft // 2 + 1
        convs = CausalConvs(config.look_right) if config.causal else Convs()
        widths = [config.base_channels // 2**level for level in range(len(config.upsample_rates) + 1)]
        self.m_source = SourceMix(config.nb_harmonics + 1)
        self.conv_pre = convs.first(config.in_channels, widths[0])
        self.ups = nn.ModuleList(
            convs.up(before, after, kernel, rate)
            for before, after, rate, kernel in zip(
                widths, widths[1:], config.upsample_rates, config.upsample_kernel_sizes, strict=False
            )
        )
        self.source_downs = nn.ModuleList(
            convs.down(2 * self.bins, width, step) for width, step in zip(widths[1:], source_steps(config), strict=True)
        )
        self.source_resblocks = nn.ModuleList(
            ResBlock(width, kernel, dilations, convs)
            for width, kernel, dilations in zip(
                widths[1:], config.source_resblock_kernel_sizes, config.source_resblock_dilation_sizes, strict=True
            )
        )
        self.resblocks = nn.ModuleList(
            ResBlock(width, kernel, dilations, convs)
            for width in widths[1:]
            for kernel, dilations in zip(config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True)
        )
        self.conv_post = convs.same(widths[-1], 2 * self.bins, POST_KERNEL)
        self.f0_predictor = F0Network(config.in_channels, config.f0_channels, convs)
        self.stft = Stft(config.istft_n_fft, config.istft_hop)
        self.inverse_stft = InverseStft(config.istft_n_fft, config.istft_hop)

    def forward(self, mel: Tensor, mel_len: Tensor | None, harmonics: Tensor) -> Tensor:
        """Return the waveform `[batch, hop * frames]`; harmonics are `[batch, nb_harmonics + 1, hop * frames]`."""
        return self.decode(mel, mel_len, self.m_source(harmonics))

    def decode(self, mel: Tensor, mel_len: Tensor | None, source: Tensor) -> Tensor:
        """Return the waveform in -audio_limit..audio_limit, `[batch, hop * frames]`, silent past a row's end.

        Args:
            mel: `[batch, mels, frames]`, log magnitude.
            mel_len: the valid frames of each row; None if all are valid, which skips the masking.
            source: the excitation, `[batch, 1, hop * frames]`.
        """
        return self.synthesize(self.filter(mel, mel_len, self.analyse(source, mel_len).to(mel.dtype)), mel_len)

    def analyse(self, source: Tensor, mel_len: Tensor | None) -> Tensor:
        """Return the spectrum of the excitation, `[batch, n_fft + 2, spectra]`, one more spectrum than hops."""
        spectrum: Tensor = self.stft(source[:, 0], None if mel_len is None else mel_len * self.hop)
        return _inside(spectrum, _mask(self._spectra(mel_len), spectrum))

    def filter(self, mel: Tensor, mel_len: Tensor | None, spectrum: Tensor) -> Tensor:
        """Return hidden frames at the rate of the spectra, `[batch, channels, spectra]`, before the read-out."""
        rate = 1
        mask = _mask(mel_len, mel)
        x = _inside(self.conv_pre(_inside(mel, mask)), mask)
        levels = zip(self.ups, self.source_downs, self.source_resblocks)  # noqa: B905 (strict cannot be scripted)
        for level, (up, source_down, source_resblock) in enumerate(levels):
            rate *= self.rates[level]
            x = up(F.leaky_relu(x, self.slope))
            if level == len(self.ups) - 1:
                # As published, the missing frame on the left is a mirrored one.
                x = torch.cat([x[:, :, 1:2], x], dim=2)
                mask = _mask(self._spectra(mel_len), x)
            else:
                mask = _mask(None if mel_len is None else mel_len * rate, x)
            excitation = _inside(source_down(spectrum), mask)
            x = _inside(x, mask) + source_resblock(excitation, mask)
            x = self._resblocks(level, x, mask)
        return x

    def synthesize(self, hidden: Tensor, mel_len: Tensor | None) -> Tensor:
        """Return the waveform of the output of `filter`: log magnitudes and phases, and their inverse STFT."""
        x = self.conv_post(F.leaky_relu(hidden)).to(self.inverse_stft.basis.dtype)
        magnitude = torch.exp(x[:, : self.bins]).clamp(max=self.magnitude_limit)
        wave: Tensor = self.inverse_stft(magnitude, torch.sin(x[:, self.bins :]), self._spectra(mel_len))
        return wave.clamp(-self.audio_limit, self.audio_limit)

    def _spectra(self, mel_len: Tensor | None) -> Tensor | None:
        """Return the valid spectra of each row; a centred STFT has one more spectrum than hops."""
        return None if mel_len is None else mel_len * self.hops + 1

    def _resblocks(self, level: int, x: Tensor, mask: Tensor | None) -> Tensor:
        """Return the mean of the residual blocks of one rate."""
        total = torch.zeros_like(x)
        for index, block in enumerate(self.resblocks):
            if index // self.kernels == level:
                total = total + block(x, mask)
        return total / self.kernels


def _mask(lengths: Tensor | None, like: Tensor) -> Tensor | None:
    return None if lengths is None else length_mask(lengths, like)


def _inside(x: Tensor, mask: Tensor | None) -> Tensor:
    """Return x with 0 past a row's end, which is how a convolution pads the row when it is computed alone."""
    return x if mask is None else x * mask


class F0Predictor(nn.Module):
    """Stage `f0_predictor`: f0 in Hz `[batch, frames]` from mel `[batch, mels, frames]` and mel_len `[batch]`."""

    full_precision_inputs = ("mel",)

    def __init__(self, hift: Hift) -> None:
        super().__init__()
        self.f0_predictor = hift.f0_predictor

    def forward(self, mel: Tensor, mel_len: Tensor) -> Tensor:
        f0: Tensor = self.f0_predictor(mel, mel_len)
        return f0


class Vocoder(nn.Module):
    """Stage `vocoder`: the waveform of mel `[batch, mels, frames]` and harmonics `[batch, harmonics, hop * frames]`."""

    full_precision_inputs = ("harmonics",)

    def __init__(self, hift: Hift) -> None:
        super().__init__()
        self.hift = hift

    def forward(self, mel: Tensor, mel_len: Tensor, harmonics: Tensor) -> Tensor:
        waveform: Tensor = self.hift(mel, mel_len, harmonics)
        return waveform
