"""Sizes and sampling of an Asteroid language model, read from the JSON files of its checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from tritone.checkpoint.documents import SETTINGS, VOCABULARY, read_object
from tritone.checkpoint.sizes import POSITIONS, TRANSFORMER, Bound, check_transformer, finite, shown, whole
from tritone.checkpoint.sizes import VOCABULARY as ROWS
from tritone.errors import ConfigError

MODEL_TYPES = ("moss_ttsd", "asteroid_tts", "moss_ttsd_with_codec")
"""`model_type` of the released folders; older ones keep "qwen3" and are recognised by their `channels`."""


IDS = Bound(0, ROWS.hi)
BOUNDS = {**TRANSFORMER, "channels": Bound(1, 64), "speech_vocab_size": ROWS}
"""The bounds of the sizes; all other numbers are ids."""


@dataclass(frozen=True)
class AsteroidConfig:
    """Sizes and ids of one checkpoint.

    Args:
        vocab_size: ids of channel 0, text and speech together.
        speech_vocab_size: ids of every other channel.
        speech_tokens: half-open range of the speech ids of channel 0; the first is code 0.
        pad_token_id, speech_pad_token: the ids that fill holes in channel 0 and in the others.
        eos_token_id: the id of channel 0 after the end.
        speech_eos: the id that ends speech.
    """

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    rms_norm_eps: float
    rope_theta: float
    max_position_embeddings: int
    vocab_size: int
    speech_vocab_size: int
    channels: int
    speech_pad_token: int
    speech_tokens: tuple[int, int]
    pad_token_id: int
    eos_token_id: int
    speech_eos: int

    @property
    def delay(self) -> int:
        """The number of rows by which the last channel is behind the first."""
        return self.channels - 1

    @property
    def pads(self) -> tuple[int, ...]:
        """The id that fills the holes of each channel."""
        return (self.pad_token_id, *[self.speech_pad_token] * self.delay)


RELEASED = AsteroidConfig(
    hidden_size=2048,
    intermediate_size=6144,
    num_hidden_layers=28,
    num_attention_heads=16,
    num_key_value_heads=8,
    head_dim=128,
    rms_norm_eps=1e-6,
    rope_theta=1e6,
    max_position_embeddings=40960,
    vocab_size=152697,
    speech_vocab_size=1025,
    channels=8,
    speech_pad_token=1024,
    speech_tokens=(151665, 152689),
    pad_token_id=151643,
    eos_token_id=151643,
    speech_eos=152694,
)
"""The sizes of the released model."""

RANGES = "sampling needs temperature > 0, top_k >= 0, 0 < top_p <= 1 and repetition_penalty > 0"


@dataclass(frozen=True)
class ChannelSampling:
    """The sampling of one channel; without `do_sample` the most probable id is taken.

    Args:
        top_k: the number of ids to draw from, 0 for all.
        top_p: the probability that the ids to draw from must have together.
        repetition_penalty: the factor, above 1, that weakens the scores of ids already in the channel.
    """

    do_sample: bool = True
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        if not (self.temperature > 0 and self.top_k >= 0 and 0 < self.top_p <= 1 and self.repetition_penalty > 0):
            raise ConfigError(f"{self}: {RANGES}")


def read_lm_config(folder: Path) -> AsteroidConfig:
    """Return the sizes in `folder/config.json` and the ids of its tokenizer.

    Raises ConfigError, which names the file and the entry that is missing or wrong.
    """
    path = folder / "config.json"
    entries = read_json(path)
    known = _Reader(entries, path)
    check_transformer(entries, str(path))
    rope = entries.get("rope_parameters")
    rope = rope if isinstance(rope, dict) else {}
    low, high = _range(entries, path)
    vocabulary, channels = known.number("vocab_size"), known.number("channels")
    if not 0 <= low < high <= vocabulary:
        raise ConfigError(f"{path}: speech_token_range {low}..{high} lies outside the {vocabulary} ids of channel 0")
    if channels < 2:
        raise ConfigError(
            f"{path}: channels is {channels}; an Asteroid model has one for text and at least one for speech"
        )
    heads, hidden = known.number("num_attention_heads"), known.number("hidden_size")
    return AsteroidConfig(
        hidden_size=hidden,
        intermediate_size=known.number("intermediate_size"),
        num_hidden_layers=known.number("num_hidden_layers"),
        num_attention_heads=heads,
        num_key_value_heads=known.number("num_key_value_heads"),
        head_dim=known.number("head_dim", hidden // heads),
        rms_norm_eps=known.decimal("rms_norm_eps", entries.get("rms_norm_eps", 1e-6)),
        rope_theta=known.decimal("rope_theta", entries.get("rope_theta") or rope.get("rope_theta", 1e6)),
        max_position_embeddings=known.number("max_position_embeddings", 32768),
        vocab_size=vocabulary,
        speech_vocab_size=known.number("speech_vocab_size"),
        channels=channels,
        speech_pad_token=known.number("speech_pad_token"),
        speech_tokens=(low, high),
        pad_token_id=known.number("pad_token_id"),
        eos_token_id=known.number("eos_token_id", known.number("pad_token_id")),
        speech_eos=_end_of_speech(folder, entries, high),
    )


def read_sampling(folder: Path, channels: int) -> tuple[tuple[ChannelSampling, ...], int | None]:
    """Return the sampling of each channel and the longest sequence in rows from `folder/generation_config.json`.

    `do_samples` and `layers` hold one entry for each channel; without them every channel has the ordinary settings.
    The longest sequence is None where the file does not say.
    """
    path = folder / "generation_config.json"
    if not path.is_file():
        return (ChannelSampling(),) * channels, None
    entries = read_json(path)
    longest = entries.get("max_length")
    if longest is not None:
        whole(longest, f"{path}: max_length", POSITIONS)
    samples, layers = entries.get("do_samples"), entries.get("layers")
    if samples is None:
        return (_sampling(entries, bool(entries.get("do_sample", False)), path),) * channels, longest
    layers = layers or [entries] * channels
    if not isinstance(samples, list) or not isinstance(layers, list) or not all(isinstance(n, dict) for n in layers):
        raise ConfigError(f"{path}: do_samples must be a list, and layers one of objects")
    if len(samples) != channels or len(layers) != channels:
        raise ConfigError(
            f"{path} has {len(samples)} do_samples and {len(layers)} layers; the model has {channels} channels"
        )
    return tuple(_sampling(layer, bool(do), path) for layer, do in zip(layers, samples, strict=True)), longest


def read_json(path: Path, limit: int = SETTINGS) -> dict[str, Any]:
    """Return the object in a JSON file; ConfigError when it is missing, not valid JSON, or not an object."""
    if not path.is_file():
        present = (
            ", ".join(sorted(entry.name for entry in path.parent.iterdir())) if path.parent.is_dir() else "nothing"
        )
        raise ConfigError(f"{path} does not exist; {path.parent} has {present or 'nothing'}")
    return read_object(path, limit)


@dataclass(frozen=True)
class _Reader:
    """The entries of a JSON file, with errors that name the file and the entry."""

    entries: Mapping[str, Any]
    path: Path

    def number(self, key: str, default: int | None = None) -> int:
        value = self.entries.get(key)
        if value is None and default is not None:
            return default
        return whole(value, f"{self.path}: {key}", BOUNDS.get(key, IDS))

    def decimal(self, key: str, value: Any) -> float:
        """Return a number above 0, of which settings have few; None stands for a missing one."""
        if finite(value, f"{self.path}: {key}") <= 0:
            raise ConfigError(f"{self.path}: {key} is {value!r}; expected a number above 0")
        return float(value)


def _range(entries: Mapping[str, Any], path: Path) -> tuple[int, int]:
    ids = entries.get("speech_token_range")
    if not isinstance(ids, list) or len(ids) != 2 or not all(type(index) is int for index in ids):
        raise ConfigError(
            f"{path}: speech_token_range must be two ids, first and one past the last, found {shown(ids)}"
        )
    return ids[0], ids[1]


END_OF_SPEECH = "<|end_of_speech|>"


def _end_of_speech(folder: Path, entries: Mapping[str, Any], after_speech: int) -> int:
    """Return the id that ends speech, from the configuration or the tokenizer.

    Without either it is the sixth id after the speech ids, as in the released models.
    """
    if isinstance(entries.get("speech_eos_token"), int):
        return whole(entries["speech_eos_token"], f"{folder / 'config.json'}: speech_eos_token", IDS)
    added = folder / "added_tokens.json"
    if added.is_file():
        index = read_json(added, VOCABULARY).get(END_OF_SPEECH)
        if isinstance(index, int):
            return whole(index, f"{added}: the id of {END_OF_SPEECH}", IDS)
    tokenizer = folder / "tokenizer.json"
    if tokenizer.is_file():
        tokens = read_json(tokenizer, VOCABULARY).get("added_tokens", [])
        for token in tokens if isinstance(tokens, list) else []:
            if isinstance(token, dict) and token.get("content") == END_OF_SPEECH:
                return whole(token.get("id"), f"{tokenizer}: the id of {END_OF_SPEECH}", IDS)
    return after_speech + 5


def _sampling(entries: Mapping[str, Any], do_sample: bool, path: Path) -> ChannelSampling:
    names = {field.name for field in fields(ChannelSampling)} - {"do_sample"}
    for key in sorted(names & entries.keys()):
        if entries[key] is not None:
            finite(entries[key], f"{path}: {key}")
    try:
        return ChannelSampling(do_sample, **{key: entries[key] for key in names if entries.get(key) is not None})
    except (ConfigError, TypeError) as error:
        raise ConfigError(f"{path}: {error}") from error
