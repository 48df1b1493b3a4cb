"""The six stages of Bert-VITS2 under their published names, with sizes from the checkpoint's configuration."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tritone.families.bert_vits2.config import BERT_CHANNELS, BertVits2Config
from tritone.families.bert_vits2.text.symbols import LANGUAGES, NUM_TONES, SYMBOLS
from tritone.stage import Axis, Scaled, Stage, Tensor

if TYPE_CHECKING:
    from torch import nn

    from tritone.families.bert_vits2.networks.generator import Generator

BATCH = Axis("batch", 1, 1, 4)
"""Segments that share a batch; memory grows with the longest of them."""
PHONES = Axis("phones", 1, 161, 1000)
FRAMES = Axis("frames", 1, 480, 3000)
"""The limit is 35 s per segment: the flow's attention grows with the square of the length."""
WINDOW = Axis("window_frames", 1, 480, 1000)
"""Frames decoded in one call. Longer utterances are decoded in windows, which bounds the memory."""

EVERYTHING = ("*",)
"""The stages that decide durations stay in float32: durations become whole frames, so one rounding moves everything
after it. Splines overflow in half precision. In the text encoder, bisection keeps the sums of embeddings and BERT
streams, which are scaled by sqrt(hidden) and decide sharp attentions, and with them most of its first layers. Together
this is 2 % of the arithmetic."""


def all_stages(config: BertVits2Config, load: Callable[[], Generator]) -> tuple[Stage, ...]:
    """Return the six stages: emb, enc_p, sdp, dp, flow and dec.

    `load()` returns the generator with its weights and with the weight norm folded.
    """
    model = config.model
    hidden, inter, gin = model.hidden_channels, model.inter_channels, model.gin_channels

    def module(name: str) -> Callable[[], nn.Module]:
        def build() -> nn.Module:
            from tritone.families.bert_vits2.networks import stage_modules

            built: nn.Module = getattr(stage_modules, name)(load())
            return built.eval()

        return build

    g = Tensor("g", "float32", (BATCH, gin, 1))
    x = Tensor("x", "float32", (BATCH, hidden, PHONES))
    x_lengths = Tensor("x_lengths", "int32", (BATCH,), length_of=PHONES)
    logw = Tensor("logw", "float32", (BATCH, 1, PHONES))
    sid = Tensor("sid", "int64", (BATCH,), values=(0, config.data.n_speakers))
    zin = Tensor("zin", "float32", (BATCH, 2, PHONES))
    z_p = Tensor("z_p", "float32", (BATCH, inter, FRAMES))
    y_lengths = Tensor("y_lengths", "int32", (BATCH,), length_of=FRAMES)
    z = Tensor("z", "float32", (BATCH, inter, FRAMES))
    z_in = Tensor("z_in", "float32", (BATCH, inter, WINDOW))
    waveform = Tensor("waveform", "float32", (BATCH, Scaled(config.data.hop_length, WINDOW)))
    return (
        Stage("emb", (sid,), (g,), module("Speaker")),
        Stage("enc_p", text_inputs(x_lengths, g), encoded(hidden, inter), module("Text"), keep_fp32=EVERYTHING),
        Stage("sdp", (x, x_lengths, zin, g), (logw,), module("Stochastic"), keep_fp32=EVERYTHING),
        Stage("dp", (x, x_lengths, g), (logw,), module("Deterministic"), keep_fp32=EVERYTHING),
        Stage("flow", (z_p, y_lengths, g), (z,), module("PriorToPosterior")),
        Stage("dec", (z_in, g), (waveform,), module("Waveform")),
    )


def text_inputs(x_lengths: Tensor, g: Tensor) -> tuple[Tensor, ...]:
    """Return the inputs of the text encoder: ids of phones, tones and languages, three BERT streams and the speaker."""

    def ids(name: str, count: int) -> Tensor:
        return Tensor(name, "int64", (BATCH, PHONES), values=(0, count))

    berts = tuple(Tensor(f"bert_{index}", "float32", (BATCH, BERT_CHANNELS, PHONES)) for index in range(len(LANGUAGES)))
    return (ids("x", len(SYMBOLS)), x_lengths, ids("t", NUM_TONES), ids("language", len(LANGUAGES)), *berts, g)


def encoded(hidden: int, inter: int) -> tuple[Tensor, ...]:
    """Return the outputs of the text encoder: encoded phones, and mean and log deviation of the prior."""
    return (
        Tensor("xout", "float32", (BATCH, hidden, PHONES)),
        Tensor("m_p", "float32", (BATCH, inter, PHONES)),
        Tensor("logs_p", "float32", (BATCH, inter, PHONES)),
    )
