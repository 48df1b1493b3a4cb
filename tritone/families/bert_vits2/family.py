"""The Bert-VITS2 family of one checkpoint: its stages and host steps, with sizes from its own config.json."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tritone.errors import CheckpointError
from tritone.families.bert_vits2.config import BERT_CHANNELS, BertVits2Config, read_config
from tritone.families.bert_vits2.hosts import SPOKEN, hosts
from tritone.families.bert_vits2.request import REQUEST
from tritone.families.bert_vits2.text.symbols import LANGUAGES, NUM_TONES, SYMBOLS
from tritone.families.bert_vits2.voice import Voice, bert_folders
from tritone.families.bert_vits2.whole import MOST_FRAMES, MOST_PHONES, ROWS, WINDOW_FRAMES, synthesize
from tritone.lm.description import NoLm
from tritone.stage import Axis, Family, Scaled, Stage, Tensor

if TYPE_CHECKING:
    from torch import nn

    from tritone.families.bert_vits2.networks.generator import Generator

NAME = "bert_vits2"
BATCH = Axis("batch", 1, 1, ROWS)
PHONES = Axis("phones", 1, 161, MOST_PHONES)
FRAMES = Axis("frames", 1, 480, MOST_FRAMES)
"""35 s of a segment; the flow's attention grows with its square."""
WINDOW = Axis("window_frames", 1, 480, WINDOW_FRAMES)
"""What the decoder takes at once; longer utterances are decoded in windows, so memory has a bound."""

EVERYTHING = ("*",)
"""What gives durations stays in float32, for they become whole frames and a rounding moves all that follows: splines
overflow in half precision, and in the text encoder bisection keeps the sums of embeddings and BERT streams (scaled by
sqrt(hidden), they decide sharp attentions) and with them most of its first layers. It is 2 % of the arithmetic."""


def all_stages(config: BertVits2Config, load: Callable[[], Generator]) -> tuple[Stage, ...]:
    """Return the six stages under their published names.

    `load()` returns the generator with its weights, norms folded.
    """
    model = config.model
    hidden, inter, gin = model.hidden_channels, model.inter_channels, model.gin_channels

    def part(name: str) -> Callable[[], nn.Module]:
        def build() -> nn.Module:
            from tritone.families.bert_vits2.networks import parts

            module: nn.Module = getattr(parts, name)(load())
            return module.eval()

        return build

    g = Tensor("g", "float32", (BATCH, gin, 1))
    x = Tensor("x", "float32", (BATCH, hidden, PHONES))
    x_lengths = Tensor("x_lengths", "int32", (BATCH,), length_of=PHONES)
    logw = Tensor("logw", "float32", (BATCH, 1, PHONES))

    def ids(name: str, rows: int) -> Tensor:
        return Tensor(name, "int64", (BATCH, PHONES), values=(0, rows))

    berts = tuple(Tensor(f"bert_{index}", "float32", (BATCH, BERT_CHANNELS, PHONES)) for index in range(len(LANGUAGES)))
    of_prior = (BATCH, inter, PHONES)
    return (
        Stage(
            "emb",
            (Tensor("sid", "int64", (BATCH,), values=(0, config.data.n_speakers)),),
            (g,),
            part("Speaker"),
        ),
        Stage(
            "enc_p",
            (ids("x", len(SYMBOLS)), x_lengths, ids("t", NUM_TONES), ids("language", len(LANGUAGES)), *berts, g),
            (
                Tensor("xout", "float32", (BATCH, hidden, PHONES)),
                Tensor("m_p", "float32", of_prior),
                Tensor("logs_p", "float32", of_prior),
            ),
            part("Text"),
            keep_fp32=EVERYTHING,
        ),
        Stage(
            "sdp",
            (x, x_lengths, Tensor("zin", "float32", (BATCH, 2, PHONES)), g),
            (logw,),
            part("Stochastic"),
            keep_fp32=EVERYTHING,
        ),
        Stage("dp", (x, x_lengths, g), (logw,), part("Deterministic"), keep_fp32=EVERYTHING),
        Stage(
            "flow",
            (
                Tensor("z_p", "float32", (BATCH, inter, FRAMES)),
                Tensor("y_lengths", "int32", (BATCH,), length_of=FRAMES),
                g,
            ),
            (Tensor("z", "float32", (BATCH, inter, FRAMES)),),
            part("PriorToPosterior"),
        ),
        Stage(
            "dec",
            (Tensor("z_in", "float32", (BATCH, inter, WINDOW)), g),
            (Tensor("waveform", "float32", (BATCH, Scaled(config.data.hop_length, WINDOW))),),
            part("Waveform"),
        ),
    )


def generator_file(folder: Path) -> Path:
    """Return the newest `G_<step>.pth` of the folder; CheckpointError when there is none."""
    steps = {int(found[1]): path for path in folder.glob("G_*.pth") if (found := re.fullmatch(r"G_(\d+)", path.stem))}
    if not steps:
        names = ", ".join(sorted(path.name for path in folder.iterdir())[:12]) or "nothing"
        raise CheckpointError(
            f"{folder} holds no generator; a Bert-VITS2 checkpoint has a G_<step>.pth beside config.json; found {names}"
        )
    return steps[max(steps)]


def family(model_dir: str | Path, generator: str | Path | None = None) -> Family:
    """Return everything the exporters and servers need to know of the checkpoint in `model_dir`; no weights are read.

    Args:
        generator: the file whose weights are meant; by default the newest in the folder.

    Raises:
        CheckpointError: there is no generator, or none with a table of speakers.
        ConfigError: config.json is missing, or says what cannot be.
    """
    folder = Path(model_dir)
    config = read_config(folder / "config.json")
    path = generator_file(folder) if generator is None else Path(generator)
    check(config, folder)

    @lru_cache(maxsize=1)
    def load() -> Generator:
        from tritone.families.bert_vits2.checkpoint import load_generator
        from tritone.nn.weight_norm import fold_weight_norm

        return fold_weight_norm(load_generator(path, config)).eval()

    return describe(config, load, Voice(config, bert_folders(folder)))


def check(config: BertVits2Config, folder: Path) -> None:
    """Raise an error for a checkpoint that its own training could make and this server cannot speak with."""
    if config.data.n_speakers == 0:
        raise CheckpointError(
            f"{folder} has no table of speakers (data.n_speakers is 0): it hears a voice from a recording, which can "
            f"be trained and not be served; train with n_speakers of at least 1"
        )


def describe(config: BertVits2Config, load: Callable[[], Generator], voice: Voice) -> Family:
    """Return the family of that configuration."""
    return Family(
        name=NAME,
        stages=all_stages(config, load),
        lm=NoLm(),
        request=REQUEST,
        response=(Tensor("waveform", "float32", (1, Scaled(config.data.hop_length, SPOKEN))),),
        synthesize=lambda call, _llm, request, cancelled=lambda: False: synthesize(call, request, voice, cancelled),
        hosts=hosts(voice),
        settings={
            "sample_rate": config.data.sampling_rate,
            "speakers": list(voice.speakers),
            "languages": [*LANGUAGES, "AUTO"],
            "bert": sorted(voice.bert.encoders),
        },
    )


def published(_kind: str) -> Family:
    """Return the family at the published sizes of 2.3: to be listed, without weights."""

    def nothing(*_: Any, **__: Any) -> Any:
        raise CheckpointError("this family was described without a checkpoint; it has no weights.")

    config = BertVits2Config()
    return describe(config, nothing, Voice(config, {}))
