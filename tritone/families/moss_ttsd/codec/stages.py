"""The codec's stages: mel to codes, codes to mel-like frames, frames to sound.

Decoding is two stages because their receptive fields differ: the transformers attend to a whole window, the vocoder
reaches a second around each frame. Frames that are only context for the transformers need no vocoder.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tritone.families.moss_ttsd.codec.config import MEL_CHANNELS, CodecConfig
from tritone.stage import Arrays, Axis, Scaled, Stage, Tensor

if TYPE_CHECKING:
    from torch import nn

    from tritone.families.moss_ttsd.codec.network import XYTokenizer

BATCH = Axis("batch", 1, 1, 8)


def codec_stages(config: CodecConfig, load: Callable[[], XYTokenizer]) -> tuple[Stage, ...]:
    """Return `codec_encoder`, `codec_decoder` and `codec_vocoder`; `load()` returns the network with its weights."""
    codes = Axis("codes", 1, config.window_codes // 3, config.window_codes)
    frames_per_code = 2 * config.pool
    frames = Axis("mel_frames", 8, frames_per_code * codes.opt, frames_per_code * codes.hi)
    hop = config.vocos.hop
    entries, _ = config.codebook

    def part(name: str) -> Callable[[], nn.Module]:
        def build() -> nn.Module:
            from tritone.families.moss_ttsd.codec import network as codec
            from tritone.nn.weight_norm import fold_weight_norm

            module: nn.Module = getattr(codec, name)(load())
            return fold_weight_norm(module).eval()

        return build

    of_frames = (BATCH, MEL_CHANNELS, Scaled(frames_per_code, codes))
    codes_shape = (BATCH, config.channels, codes)
    return (
        Stage(
            name="codec_encoder",
            inputs=(
                Tensor("mel", "float32", of_frames, values=(-0.2, 0.5)),
                Tensor("mel_len", "int32", (BATCH,), length_of=Scaled(frames_per_code, codes)),
            ),
            outputs=(Tensor("codes", "int64", codes_shape),),
            build=part("Encoder"),
            keep_fp32=("/quantizer/*",),
            # A limit of the regret: a rounded vector may choose another entry only where both are about as near.
            fp16_tolerance=5e-3,
            regret=lambda: regret_of(part("Encoder")()),
        ),
        Stage(
            name="codec_decoder",
            inputs=(
                Tensor("codes", "int64", codes_shape, values=(0, entries)),
                Tensor("codes_len", "int32", (BATCH,), length_of=codes),
            ),
            outputs=(Tensor("frames", "float32", of_frames),),
            build=part("Decoder"),
            keep_fp32=("/Gather*", "/Add*", "/output_proj/*"),
        ),
        Stage(
            name="codec_vocoder",
            inputs=(
                Tensor("frames", "float32", (BATCH, MEL_CHANNELS, frames), values=(0.3, 0.5)),
                Tensor("frames_len", "int32", (BATCH,), length_of=frames),
            ),
            outputs=(Tensor("waveform", "float32", (BATCH, Scaled(hop, frames))),),
            build=part("Vocoder"),
            keep_fp32=("/enhanced_vocos/head/*",),
        ),
    )


def regret_of(encoder: Any) -> Callable[[Arrays, Arrays], Arrays]:
    """Return the function that measures how much farther each chosen entry is from the residual than the nearest.

    Its result is relative to the distance of the nearest. The residual follows the codes under test, so that codes
    after a tie are judged on their own.

    Args:
        encoder: an `Encoder` in float32.
    """
    import numpy as np
    import torch

    @torch.inference_mode()
    def regret(inputs: Arrays, outputs: Arrays) -> Arrays:
        mel, mel_len, codes = (
            torch.from_numpy(array) for array in (inputs["mel"], inputs["mel_len"], outputs["codes"])
        )
        residual = encoder.quantizer.enter(encoder.features(mel, mel_len))
        worse = []
        for level, chosen in zip(encoder.quantizer.quantizers, codes.unbind(1), strict=True):
            book: torch.Tensor = level.codebook
            if not (int(chosen.min()) >= 0 and int(chosen.max()) < len(book)):
                return {"codes": np.full(tuple(codes.shape), np.inf, np.float32)}
            remaining = residual - book[chosen]
            nearest = torch.cdist(residual, book, compute_mode="donot_use_mm_for_euclid_dist").amin(-1)
            worse.append((remaining.norm(dim=-1) - nearest) / nearest.clamp(min=1e-6))
            residual = remaining
        return {"codes": torch.stack(worse, dim=1).numpy()}

    return regret
