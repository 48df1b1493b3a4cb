"""The two stages of v1's language model: names, shapes and ranges.

It is not a causal LM that engines can load, so its steps are stages; `session.py` decodes with them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tritone.families.cosyvoice.config.v1 import TransformerLmConfig
from tritone.stage import Axis, Stage, Tensor

if TYPE_CHECKING:
    from tritone.families.cosyvoice.lm.v1.network import TransformerLm

TEXT = Axis("llm_text_tokens", 1, 40, 400)
SPEAKERS = Axis("llm_speakers", 0, 1, 1)
"""One speaker, or none if the request describes the manner of speaking in words."""
PREFIX = Axis("llm_prefix", 0, 42, TEXT.hi + 2)
TOKENS = Axis("llm_tokens", 1, 100, 1501)
"""task_id and the prompt's speech (30 s) in the first step, one token in every other."""
PAST = Axis("llm_past", 0, 200, 4095)


def angles(encoder: str) -> tuple[str, ...]:
    """Return the nodes of an encoder's position angles, which grow with the position: in fp16 off by 1 rad at 1500."""
    return tuple(f"/{encoder}/encoders/{name}" for name in ("Mul*", "Exp", "Sin", "Cos"))


SPEAKER_FP32 = ("/ReduceL2", "/Clip", "/Div")
"""The speaker's norm is at least 1e-12, which is 0 in fp16."""


def lm_stages(config: TransformerLmConfig, lm_loader: Callable[[], TransformerLm]) -> tuple[Stage, Stage]:
    """Return `llm_text_encoder` and `llm_step`; `lm_loader` returns the loaded network, the same one each time.

    `token` is an id of the merged vocabulary (codes, stop ids, sos, task_id). The state input is returned as
    `next_kv_state`; `cfm.initial_state` makes the first.
    """
    decoder = config.decoder
    prefix = Tensor("prefix", "float32", (1, PREFIX, config.hidden_size))

    def state(name: str, past: Axis) -> Tensor:
        heads, width = decoder.attention_heads, 2 * decoder.dim // decoder.attention_heads
        return Tensor(name, "float32", (1, decoder.num_blocks, heads, past, width))

    def text_encoder() -> object:
        from tritone.families.cosyvoice.lm.v1.network import LlmTextEncoder

        return LlmTextEncoder(lm_loader()).eval()

    def step() -> object:
        from tritone.families.cosyvoice.lm.v1.network import LlmStep

        return LlmStep(lm_loader()).eval()

    return (
        Stage(
            "llm_text_encoder",
            (
                Tensor("text_token", "int64", (1, TEXT), (0, config.text_token_size)),
                Tensor("embedding", "float32", (SPEAKERS, config.spk_embed_dim)),
            ),
            (prefix,),
            text_encoder,
            published="llm.text_encoder",
            keep_fp32=(*angles("text_encoder"), *SPEAKER_FP32),
            fp16_tolerance=1e-2,
        ),
        Stage(
            "llm_step",
            (prefix, Tensor("token", "int64", (1, TOKENS), (0, config.speech_token_size)), state("kv_state", PAST)),
            (
                Tensor("logits", "float32", (1, config.head_size)),
                state("next_kv_state", Axis("llm_next_past", 1, 201, PAST.hi + 1)),
            ),
            step,
            published="llm.llm",
            keep_fp32=angles("llm"),
            fp16_tolerance=1e-2,
        ),
    )
