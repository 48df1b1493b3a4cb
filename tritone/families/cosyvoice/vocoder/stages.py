"""The stages of the vocoder: mel to f0, and mel with harmonics to waveform."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tritone.families.cosyvoice.config.common import HiftConfig
from tritone.stage import Axis, Scaled, Stage, Tensor

if TYPE_CHECKING:
    from torch import nn

    from tritone.families.cosyvoice.vocoder.hift import Hift

BATCH = Axis("batch", 1, 1, 8)
FRAMES = Axis("mel_frames", 4, 200, 3000)


def vocoder_stages(config: HiftConfig, hift_loader: Callable[[], Hift]) -> tuple[Stage, ...]:
    """Return stages `f0_predictor` and `vocoder`, with weight norm folded; `hift_loader()` returns a loaded network."""
    samples = Scaled(config.hop, FRAMES)
    mel = Tensor("mel", "float32", (BATCH, config.in_channels, FRAMES), values=(-5.0, 2.0))
    mel_len = Tensor("mel_len", "int32", (BATCH,), length_of=FRAMES)
    harmonics = Tensor(
        "harmonics", "float32", (BATCH, config.nb_harmonics + 1, samples), values=(0.0, config.nsf_alpha)
    )

    def f0_predictor() -> nn.Module:
        from tritone.families.cosyvoice.vocoder.hift import F0Predictor
        from tritone.nn.weight_norm import fold_weight_norm

        return F0Predictor(fold_weight_norm(hift_loader()).eval())

    def vocoder() -> nn.Module:
        from tritone.families.cosyvoice.vocoder.hift import Vocoder
        from tritone.nn.weight_norm import fold_weight_norm

        return Vocoder(fold_weight_norm(hift_loader()).eval())

    return (
        Stage(
            name="f0_predictor",
            inputs=(mel, mel_len),
            outputs=(Tensor("f0", "float32", (BATCH, FRAMES), scale=config.nsf_voiced_threshold),),
            build=f0_predictor,
            # f0 in Hz is a nearly cancelling sum of large terms and is integrated to a phase. The network has 1 MB.
            keep_fp32=("*",),
        ),
        Stage(
            name="vocoder",
            inputs=(mel, mel_len, harmonics),
            outputs=(Tensor("waveform", "float32", (BATCH, samples)),),
            build=vocoder,
            # The inverse transform divides by a sum of windows of at least 1e-8, which is 0 in fp16: a division by zero
            # past the end of a shorter row. The magnitudes are exp(x) before they are clipped.
            keep_fp32=("/hift/*stft/*", "/hift/Exp"),
            fp16_tolerance=1e-2,
        ),
    )
