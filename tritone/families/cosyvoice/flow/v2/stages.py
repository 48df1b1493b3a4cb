"""The four flow stages of v2: names, shapes and ranges, declared once for every exporter, server and check."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tritone.families.cosyvoice.config.v2 import FlowConfig
from tritone.families.cosyvoice.flow.stages import (
    BATCH,
    CHUNK_TOKENS,
    CONFORMER_FP32,
    FP16_TOLERANCE,
    SPEECH_TOKENS,
    UNET_FP32,
    estimator_stages,
    token_inputs,
)
from tritone.stage import Axis, Scaled, Stage, Tensor

if TYPE_CHECKING:
    from tritone.families.cosyvoice.flow.v2.network import Flow


def flow_stages(config: FlowConfig, flow_loader: Callable[[], Flow]) -> tuple[Stage, ...]:
    """Return `flow_encoder`, `flow_encoder_chunk`, `flow_estimator` and `flow_estimator_chunk` of v2.

    `flow_loader` returns the loaded flow, the same one each time. A state input `<x>_state` is returned as
    `next_<x>_state`; `cfm.initial_state` makes the first.
    """
    return (*_encoder_stages(config, flow_loader), *estimator_stages(config, flow_loader, UNET_FP32))


def _encoder_stages(config: FlowConfig, flow: Callable[[], Flow]) -> tuple[Stage, Stage]:
    encoder, mel = config.encoder, config.output_size
    bound = encoder.left_chunks * encoder.chunk_size if encoder.left_chunks >= 0 else SPEECH_TOKENS.hi
    past = Axis("past_tokens", 0, min(bound, 2 * encoder.chunk_size), bound)
    after = Axis("next_past_tokens", 0, past.opt, bound)
    with_lookahead = Scaled(1, CHUNK_TOKENS, config.pre_lookahead_len)
    embedding = Tensor("embedding", "float32", (BATCH, config.spk_embed_dim))
    chunk_size = Tensor("chunk_size", "int64", (1,), (encoder.chunk_size, encoder.chunk_size + 1))
    spks = Tensor("spks", "float32", (BATCH, mel))

    def state(prefix: str, past: Axis) -> tuple[Tensor, ...]:
        heads, width = encoder.attention_heads, 2 * encoder.dim // encoder.attention_heads
        return (
            Tensor(f"{prefix}token_att_state", "float32", (BATCH, encoder.num_blocks, heads, past, width)),
            Tensor(
                f"{prefix}frame_att_state", "float32", (BATCH, encoder.num_up_blocks, heads, Scaled(2, past), width)
            ),
            Tensor(f"{prefix}conv_state", "float32", (BATCH, 2 * encoder.dim, 2)),
        )

    def whole_module() -> object:
        from tritone.families.cosyvoice.flow.v2.network import FlowEncoder

        return FlowEncoder(flow()).eval()

    def chunk_module() -> object:
        from tritone.families.cosyvoice.flow.v2.network import FlowEncoderChunk

        return FlowEncoderChunk(flow()).eval()

    return (
        Stage(
            "flow_encoder",
            (*token_inputs(config, SPEECH_TOKENS), embedding, chunk_size),
            (Tensor("mu", "float32", (BATCH, mel, Scaled(config.token_mel_ratio, SPEECH_TOKENS))), spks),
            whole_module,
            keep_fp32=CONFORMER_FP32,
            fp16_tolerance=FP16_TOLERANCE,
            published="flow.encoder",
        ),
        Stage(
            "flow_encoder_chunk",
            (*token_inputs(config, with_lookahead), embedding, chunk_size, *state("", past)),
            (
                Tensor("mu", "float32", (BATCH, mel, Scaled(config.token_mel_ratio, CHUNK_TOKENS))),
                spks,
                *state("next_", after),
            ),
            chunk_module,
            keep_fp32=CONFORMER_FP32,
        ),
    )
