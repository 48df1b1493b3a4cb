"""The four flow stages: names, shapes and ranges, declared once for every exporter, server and check."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tritone.families.cosyvoice.config.common import CommonFlowConfig
from tritone.families.cosyvoice.config.v2 import FlowConfig
from tritone.stage import Axis, Scaled, Stage, Tensor

if TYPE_CHECKING:
    from tritone.families.cosyvoice.config.v3 import DitFlowConfig
    from tritone.families.cosyvoice.flow.v2.network import Flow, FlowBase

BATCH = Axis("batch", 1, 1, 8)
ROWS = Axis("rows", 1, 2, 16)
"""The estimator's batch: guidance doubles the requests."""
SPEECH_TOKENS = Axis("speech_tokens", 1, 100, 1500)
FRAMES = Axis("frames", 4, 200, 3000)
CHUNK_TOKENS = Axis("chunk_tokens", 1, 25, 128)
CHUNK_FRAMES = Axis("chunk_frames", 2, 50, 256)
ENCODER_FP32 = (
    # Angles of the position encoding grow with the position: rounded to fp16 they are off by 1 radian at 3000.
    *(f"/encoder/*encoders/{name}" for name in ("Mul*", "Exp", "Sin", "Cos")),
    # Attention scores are a sum of two products in front of an exponential.
    *(f"/encoder/*self_attn/{name}" for name in ("Add*", "Mul*", "Softmax")),
    # The speaker's norm is bounded below by 1e-12, which fp16 does not have: an all-zero speaker would give 0 / 0.
    *("/ReduceL2", "/Clip_1", "/Div"),
)
ESTIMATOR_FP32 = (
    # The angle 1000 t of the time embedding: in fp16 its sine is off by 0.2.
    *("/estimator/time_mlp/Mul", "/estimator/time_mlp/Mul_1", "/estimator/time_mlp/Sin", "/estimator/time_mlp/Cos"),
    # Mish squares exp(x), which overflows fp16 from x = 5.5 on; activations reach 11.
    *("/estimator/*/mlp.0/*", "/estimator/*/Exp"),
    *(f"/estimator/*block{n}/{name}*" for n in ("[12]", "") for name in ("Add", "Mul", "Div")),
)
FP16_TOLERANCE = 1e-2


def flow_stages(config: FlowConfig, flow_loader: Callable[[], Flow]) -> tuple[Stage, ...]:
    """`flow_encoder`, `flow_encoder_chunk`, `flow_estimator` and `flow_estimator_chunk` of a v2 checkpoint.

    `flow_loader` returns the loaded flow, the same one each time. State inputs are called `<x>_state` and come back as
    `next_<x>_state`; `cfm.initial_state` makes the first.
    """
    return (*_encoder_stages(config, flow_loader), *estimator_stages(config, flow_loader, ESTIMATOR_FP32))


def token_inputs(config: CommonFlowConfig, size: Axis | Scaled) -> tuple[Tensor, Tensor]:
    """`speech_token` and `speech_token_len` of an encoder stage."""
    return (
        Tensor("speech_token", "int64", (BATCH, size), (0, config.vocab_size)),
        Tensor("speech_token_len", "int32", (BATCH,), length_of=size),
    )


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
            keep_fp32=ENCODER_FP32,
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
            keep_fp32=ENCODER_FP32,
        ),
    )


def estimator_stages(
    config: FlowConfig | DitFlowConfig, flow: Callable[[], FlowBase], keep_fp32: tuple[str, ...]
) -> tuple[Stage, Stage]:
    """`flow_estimator` and `flow_estimator_chunk` of any estimator that streams."""
    estimator, mel = config.estimator, config.output_size
    bound = estimator.left_chunks * estimator.chunk_size if estimator.left_chunks >= 0 else FRAMES.hi
    past = Axis("past_frames", 0, min(bound, 2 * estimator.chunk_size), bound)
    after = Axis("next_past_frames", 0, past.opt, bound)

    def mels(name: str, frames: Axis) -> Tensor:
        return Tensor(name, "float32", (ROWS, mel, frames))

    conditions = (Tensor("t", "float32", (ROWS,), (0.5, 0.1)), Tensor("spks", "float32", (ROWS, mel)))
    chunk_size = Tensor("chunk_size", "int64", (1,), (estimator.chunk_size, estimator.chunk_size + 1))

    def state(prefix: str, past: Axis) -> tuple[Tensor, Tensor]:
        layers, heads = estimator.attention_layers, estimator.num_heads
        return (
            Tensor(f"{prefix}att_state", "float32", (ROWS, layers, heads, past, 2 * estimator.attention_head_dim)),
            Tensor(f"{prefix}conv_state", "float32", (ROWS, *estimator.conv_state)),
        )

    def whole_module() -> object:
        from tritone.families.cosyvoice.flow.v2.network import FlowEstimator

        return FlowEstimator(flow()).eval()

    def chunk_module() -> object:
        from tritone.families.cosyvoice.flow.v2.network import FlowEstimatorChunk

        return FlowEstimatorChunk(flow()).eval()

    mask = Tensor("mask", "float32", (ROWS, 1, FRAMES), (1, 0))
    return (
        Stage(
            "flow_estimator",
            (mels("x", FRAMES), mask, mels("mu", FRAMES), *conditions, mels("cond", FRAMES), chunk_size),
            (mels("velocity", FRAMES),),
            whole_module,
            published="flow.decoder.estimator",
            keep_fp32=keep_fp32,
            fp16_tolerance=FP16_TOLERANCE,
        ),
        Stage(
            "flow_estimator_chunk",
            (
                *(mels(name, CHUNK_FRAMES) for name in ("x", "mu")),
                *conditions,
                mels("cond", CHUNK_FRAMES),
                chunk_size,
                *state("", past),
            ),
            (mels("velocity", CHUNK_FRAMES), *state("next_", after)),
            chunk_module,
            keep_fp32=keep_fp32,
            fp16_tolerance=FP16_TOLERANCE,
        ),
    )
