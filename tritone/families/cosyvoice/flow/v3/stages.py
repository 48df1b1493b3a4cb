"""The four flow stages of v3: an encoder without attention, and the estimator stages that v2 has too."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tritone.families.cosyvoice.config.v3 import DitFlowConfig
from tritone.families.cosyvoice.flow.stages import BATCH, CHUNK_TOKENS, SPEECH_TOKENS, estimator_stages, token_inputs
from tritone.stage import Scaled, Stage, Tensor

if TYPE_CHECKING:
    from tritone.families.cosyvoice.flow.v3.network import DitFlow

ENCODER_FP32 = (
    # The speaker's norm is bounded below by 1e-12, which fp16 does not have: an all-zero speaker would give 0 / 0.
    *("/ReduceL2", "/Clip*", "/Div"),
)
ESTIMATOR_FP32 = (
    # The angle 1000 t of the time embedding, and those of the rotary positions: fp16 has no fractions at 1000.
    *("/estimator/time_embed/*", "/estimator/rotary_embed/*"),
    # Mish squares exp(x), which overflows fp16 from x = 5.5 on.
    "/estimator/input_embed/conv_pos_embed/*",
)


def flow_stages(config: DitFlowConfig, flow_loader: Callable[[], DitFlow]) -> tuple[Stage, ...]:
    """Return `flow_encoder`, `flow_encoder_chunk`, `flow_estimator` and `flow_estimator_chunk` of v3.

    They are like those of v2, except that the encoder has no mask and therefore no `chunk_size`.
    """
    return (*_encoder_stages(config, flow_loader), *estimator_stages(config, flow_loader, ESTIMATOR_FP32))


def _encoder_stages(config: DitFlowConfig, flow: Callable[[], DitFlow]) -> tuple[Stage, Stage]:
    mel, with_lookahead = config.output_size, Scaled(1, CHUNK_TOKENS, config.pre_lookahead_len)
    embedding = Tensor("embedding", "float32", (BATCH, config.spk_embed_dim))
    spks = Tensor("spks", "float32", (BATCH, mel))

    def state(prefix: str) -> Tensor:
        return Tensor(f"{prefix}conv_state", "float32", (BATCH, config.encoder.channels, 2))

    def whole_module() -> object:
        from tritone.families.cosyvoice.flow.v3.network import LookaheadEncoder

        return LookaheadEncoder(flow()).eval()

    def chunk_module() -> object:
        from tritone.families.cosyvoice.flow.v3.network import LookaheadEncoderChunk

        return LookaheadEncoderChunk(flow()).eval()

    return (
        Stage(
            "flow_encoder",
            (*token_inputs(config, SPEECH_TOKENS), embedding),
            (Tensor("mu", "float32", (BATCH, mel, Scaled(config.token_mel_ratio, SPEECH_TOKENS))), spks),
            whole_module,
            keep_fp32=ENCODER_FP32,
            published="flow.encoder",
        ),
        Stage(
            "flow_encoder_chunk",
            (*token_inputs(config, with_lookahead), embedding, state("")),
            (
                Tensor("mu", "float32", (BATCH, mel, Scaled(config.token_mel_ratio, CHUNK_TOKENS))),
                spks,
                state("next_"),
            ),
            chunk_module,
            keep_fp32=ENCODER_FP32,
        ),
    )
