"""The stages of the vocoder: mel to f0, and mel with harmonics to waveform."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from tritone.families.cosyvoice.config import HiftConfig
from tritone.families.cosyvoice.hift import Hift
from tritone.nn.weight_norm import fold_weight_norm
from tritone.stage import Axis, Scaled, Stage
from tritone.stage import Tensor as TensorSpec

BATCH = Axis("batch", 1, 1, 8)
FRAMES = Axis("mel_frames", 4, 200, 3000)


class F0Predictor(nn.Module):
    """mel `[batch, mels, frames]`, mel_len `[batch]` -> f0 in Hz `[batch, frames]`."""

    def __init__(self, hift: Hift) -> None:
        super().__init__()
        self.f0_predictor = hift.f0_predictor

    def forward(self, mel: Tensor, mel_len: Tensor) -> Tensor:
        f0: Tensor = self.f0_predictor(mel, mel_len)
        return f0


class Vocoder(nn.Module):
    """mel `[batch, mels, frames]`, mel_len `[batch]`, harmonics `[batch, harmonics, hop * frames]` -> waveform."""

    def __init__(self, hift: Hift) -> None:
        super().__init__()
        self.hift = hift

    def forward(self, mel: Tensor, mel_len: Tensor, harmonics: Tensor) -> Tensor:
        waveform: Tensor = self.hift(mel, mel_len, harmonics)
        return waveform


def vocoder_stages(config: HiftConfig, hift_loader: Callable[[], Hift]) -> tuple[Stage, ...]:
    """Stages `f0_predictor` and `vocoder`, their weight norm folded; `hift_loader()` returns a loaded network."""
    samples = Scaled(config.hop, FRAMES)
    mel = TensorSpec("mel", "float32", (BATCH, config.in_channels, FRAMES), values=(-5.0, 2.0))
    mel_len = TensorSpec("mel_len", "int32", (BATCH,), length_of=FRAMES)
    harmonics = TensorSpec(
        "harmonics", "float32", (BATCH, config.nb_harmonics + 1, samples), values=(0.0, config.nsf_alpha)
    )

    def load() -> Hift:
        return fold_weight_norm(hift_loader()).eval()

    return (
        Stage(
            name="f0_predictor",
            inputs=(mel, mel_len),
            outputs=(TensorSpec("f0", "float32", (BATCH, FRAMES)),),
            build=lambda: F0Predictor(load()),
        ),
        Stage(
            name="vocoder",
            inputs=(mel, mel_len, harmonics),
            outputs=(TensorSpec("waveform", "float32", (BATCH, samples)),),
            build=lambda: Vocoder(load()),
        ),
    )
