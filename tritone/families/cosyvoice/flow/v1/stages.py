"""The two flow stages of v1: their names, shapes and ranges."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tritone.families.cosyvoice.config.v1 import InterpolatingFlowConfig
from tritone.families.cosyvoice.flow.stages import BATCH, CONFORMER_FP32, FP16_TOLERANCE, ROWS, UNET_FP32
from tritone.stage import Axis, Stage, Tensor

if TYPE_CHECKING:
    from tritone.families.cosyvoice.flow.v1.network import InterpolatingFlow

SPEECH_TOKENS = Axis("speech_tokens", 1, 200, 3000)
FRAMES = Axis("frames", 4, 344, 5168)
"""Frames of prompt and speech together, up to a minute of 22.05 kHz mel."""
# A group norm's sums over a long row overflow fp16, and so does the square of exp(x) in Mish.
REGULATOR_FP32 = ("/length_regulator/model.*/[!C]*",)
NORMS_FP32 = ("/estimator/*/block.1/*",)


def flow_stages(config: InterpolatingFlowConfig, flow_loader: Callable[[], InterpolatingFlow]) -> tuple[Stage, Stage]:
    """Return `flow_encoder` and `flow_estimator`; `flow_loader` returns the loaded flow, the same one each time.

    `interpolation` computes the position of each frame among the tokens, `frame_token` and `frame_fraction`.
    """
    mel = config.output_size

    def encoder() -> object:
        from tritone.families.cosyvoice.flow.v1.network import InterpolatingEncoder

        return InterpolatingEncoder(flow_loader()).eval()

    def estimator() -> object:
        from tritone.families.cosyvoice.flow.v1.network import UnetEstimator

        return UnetEstimator(flow_loader()).eval()

    def mels(name: str) -> Tensor:
        return Tensor(name, "float32", (ROWS, mel, FRAMES))

    return (
        Stage(
            "flow_encoder",
            (
                Tensor("speech_token", "int64", (BATCH, SPEECH_TOKENS), (0, config.vocab_size)),
                Tensor("speech_token_len", "int32", (BATCH,), length_of=SPEECH_TOKENS),
                Tensor("embedding", "float32", (BATCH, config.spk_embed_dim)),
                Tensor("frame_token", "int64", (BATCH, FRAMES), (0, SPEECH_TOKENS.opt)),
                Tensor("frame_fraction", "float32", (BATCH, FRAMES), (0.5, 0.2)),
                Tensor("frame_len", "int32", (BATCH,), length_of=FRAMES),
            ),
            (Tensor("mu", "float32", (BATCH, mel, FRAMES)), Tensor("spks", "float32", (BATCH, mel))),
            encoder,
            published="flow.encoder",
            keep_fp32=(*CONFORMER_FP32, *REGULATOR_FP32),
            fp16_tolerance=FP16_TOLERANCE,
        ),
        Stage(
            "flow_estimator",
            (
                mels("x"),
                Tensor("mask", "float32", (ROWS, 1, FRAMES), (1, 0)),
                mels("mu"),
                Tensor("t", "float32", (ROWS,), (0.5, 0.1)),
                Tensor("spks", "float32", (ROWS, mel)),
                mels("cond"),
            ),
            (mels("velocity"),),
            estimator,
            published="flow.decoder.estimator",
            keep_fp32=(*UNET_FP32, *NORMS_FP32),
            fp16_tolerance=FP16_TOLERANCE,
        ),
    )
