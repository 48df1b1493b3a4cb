"""Parts of the flow stages that several versions share: axes, token inputs, and the stages of streaming estimators."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tritone.families.cosyvoice.config.common import CommonFlowConfig
from tritone.stage import Axis, Scaled, Stage, Tensor

if TYPE_CHECKING:
    from tritone.families.cosyvoice.config.v2 import FlowConfig
    from tritone.families.cosyvoice.config.v3 import DitFlowConfig
    from tritone.families.cosyvoice.flow.network import FlowBase

BATCH = Axis("batch", 1, 1, 8)
ROWS = Axis("rows", 1, 2, 16)
"""The estimator's batch; guidance doubles the number of requests."""
SPEECH_TOKENS = Axis("speech_tokens", 1, 100, 1500)
FRAMES = Axis("frames", 4, 200, 3000)
CHUNK_TOKENS = Axis("chunk_tokens", 1, 25, 128)
CHUNK_FRAMES = Axis("chunk_frames", 2, 50, 256)
CONFORMER_FP32 = (
    # Angles of the position encoding grow with the position: rounded to fp16 they are off by 1 radian at 3000.
    *(f"/encoder/*encoders/{name}" for name in ("Mul*", "Exp", "Sin", "Cos")),
    # Attention scores are a sum of two products in front of an exponential.
    *(f"/encoder/*self_attn/{name}" for name in ("Add*", "Mul*", "Softmax")),
    # The speaker's norm is bounded below by 1e-12, which fp16 does not have: an all-zero speaker would give 0 / 0.
    *("/ReduceL2", "/Clip_1", "/Div"),
)
UNET_FP32 = (
    # The angle 1000 t of the time embedding: in fp16 its sine is off by 0.2.
    *("/estimator/time_mlp/Mul", "/estimator/time_mlp/Mul_1", "/estimator/time_mlp/Sin", "/estimator/time_mlp/Cos"),
    # Mish squares exp(x), which overflows fp16 from x = 5.5 on; activations reach 11.
    *("/estimator/*/mlp.0/*", "/estimator/*/Exp"),
    *(f"/estimator/*block{n}/{name}*" for n in ("[12]", "") for name in ("Add", "Mul", "Div")),
)
FP16_TOLERANCE = 1e-2


def token_inputs(config: CommonFlowConfig, size: Axis | Scaled) -> tuple[Tensor, Tensor]:
    """Return the inputs `speech_token` and `speech_token_len` of an encoder stage."""
    return (
        Tensor("speech_token", "int64", (BATCH, size), (0, config.vocab_size)),
        Tensor("speech_token_len", "int32", (BATCH,), length_of=size),
    )


def estimator_stages(
    config: FlowConfig | DitFlowConfig, flow: Callable[[], FlowBase], keep_fp32: tuple[str, ...]
) -> tuple[Stage, Stage]:
    """Return `flow_estimator` and `flow_estimator_chunk` of an estimator that streams."""
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
        from tritone.families.cosyvoice.flow.network import FlowEstimator

        return FlowEstimator(flow()).eval()

    def chunk_module() -> object:
        from tritone.families.cosyvoice.flow.network import FlowEstimatorChunk

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
