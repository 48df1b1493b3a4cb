"""The six stages of Bert-VITS2 under their published names, with sizes from the checkpoint's configuration."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from tritone.audio.reference import REFERENCE_SECONDS
from tritone.families.bert_vits2.config import BERT_CHANNELS, BertVits2Config, DataConfig
from tritone.families.bert_vits2.emotion import CLUSTERS, PROMPTS
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
after it; the speaker of a recording decides them too. Splines overflow in half precision. In the text encoder,
bisection keeps the sums of embeddings and BERT streams, which are scaled by sqrt(hidden) and decide sharp attentions,
and with them most of its first layers. Together this is 2 % of the arithmetic."""


def all_stages(config: BertVits2Config, load: Callable[[], Generator]) -> tuple[Stage, ...]:
    """Return the six stages: emb (or ref_enc, without a table of speakers), enc_p, sdp, dp, flow and dec.

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
    zin = Tensor("zin", "float32", (BATCH, 2, PHONES))
    z_p = Tensor("z_p", "float32", (BATCH, inter, FRAMES))
    y_lengths = Tensor("y_lengths", "int32", (BATCH,), length_of=FRAMES)
    z = Tensor("z", "float32", (BATCH, inter, FRAMES))
    z_in = Tensor("z_in", "float32", (BATCH, inter, WINDOW))
    waveform = Tensor("waveform", "float32", (BATCH, Scaled(config.data.hop_length, WINDOW)))
    text = {CLUSTERS: "ClusterText", PROMPTS: "PromptText"}.get(config.emotion, "Text")
    given = (*text_inputs(x_lengths, g), *emotion_inputs(config))
    sid = Tensor("sid", "int64", (BATCH,), values=(0, config.data.n_speakers))
    speaker = Stage("emb", (sid,), (g,), module("Speaker"))
    if config.data.n_speakers == 0:
        heard = heard_inputs(config.data)
        speaker = Stage("ref_enc", heard, (g,), module("HeardSpeaker"), keep_fp32=EVERYTHING)
    return (
        speaker,
        Stage("enc_p", given, encoded(hidden, inter), module(text), keep_fp32=EVERYTHING),
        Stage("sdp", (x, x_lengths, zin, g), (logw,), module("Stochastic"), keep_fp32=EVERYTHING),
        Stage("dp", (x, x_lengths, g), (logw,), module("Deterministic"), keep_fp32=EVERYTHING),
        Stage("flow", (z_p, y_lengths, g), (z,), module("PriorToPosterior")),
        Stage("dec", (z_in, g), (waveform,), module("Waveform")),
    )


def text_inputs(x_lengths: Tensor, g: Tensor) -> tuple[Tensor, ...]:
    """Return the inputs of every text encoder: ids of phones, tones and languages, BERT streams and the speaker."""

    def ids(name: str, count: int) -> Tensor:
        return Tensor(name, "int64", (BATCH, PHONES), values=(0, count))

    berts = tuple(Tensor(f"bert_{index}", "float32", (BATCH, BERT_CHANNELS, PHONES)) for index in range(len(LANGUAGES)))
    return (ids("x", len(SYMBOLS)), x_lengths, ids("t", NUM_TONES), ids("language", len(LANGUAGES)), *berts, g)


def emotion_inputs(config: BertVits2Config) -> tuple[Tensor, ...]:
    """Return the text encoder's inputs of an emotion: an embedding and, in 2.1, the number of a cluster or -1."""
    kind = config.emotion
    embedding = (Tensor("emotion", "float32", (BATCH, kind.numbers)),) if kind.numbers else ()
    number = (Tensor("emotion_id", "int64", (BATCH,), values=(-1, kind.clusters)),) if kind.clusters else ()
    return (*embedding, *number)


def heard_inputs(data: DataConfig) -> tuple[Tensor, ...]:
    """Return the inputs of the reference encoder: linear spectrograms and their lengths."""
    least, most = (seconds * data.sampling_rate / data.hop_length for seconds in REFERENCE_SECONDS)
    frames = Axis("reference_frames", math.floor(least), round(10 * least), math.ceil(most))
    spec = Tensor("spec", "float32", (BATCH, data.spec_channels, frames))
    return (spec, Tensor("spec_lengths", "int32", (BATCH,), length_of=frames))


def encoded(hidden: int, inter: int) -> tuple[Tensor, ...]:
    """Return the outputs of the text encoder: encoded phones, and mean and log deviation of the prior."""
    return (
        Tensor("xout", "float32", (BATCH, hidden, PHONES)),
        Tensor("m_p", "float32", (BATCH, inter, PHONES)),
        Tensor("logs_p", "float32", (BATCH, inter, PHONES)),
    )
