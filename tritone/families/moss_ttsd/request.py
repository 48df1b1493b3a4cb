"""The inputs of a request, and how they become the prompt's rows, the sampling of each channel and the reference."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from tritone.errors import ConfigError, InvalidRequest
from tritone.families.moss_ttsd.codec.config import INPUT_RATE
from tritone.families.moss_ttsd.codec.windows import encode
from tritone.families.moss_ttsd.config import MossConfig
from tritone.families.moss_ttsd.dialogue import CLEANINGS, check_dialogue, normalize, prompt_text
from tritone.families.moss_ttsd.lm.config import RANGES, AsteroidConfig, ChannelSampling
from tritone.families.moss_ttsd.lm.delay import delayed, frames_of
from tritone.families.moss_ttsd.lm.stages import ROWS
from tritone.families.moss_ttsd.text_tokenizer import DialogueTokenizer
from tritone.request.fields import check_known, has_sound, read_number, read_sound, read_text
from tritone.stage import Arrays, Axis, Call, Tensor

REFERENCE = Axis("reference_samples", 1, 80000, 480000)
SECOND = Axis("second_reference_samples", 1, 80000, 480000)
CHANNELS = Axis("channels", 1, 8, 64)
LONGEST_TEXT = 8 * ROWS.hi
"""The most characters of a dialogue, and of a transcript: twice as many as usually fill the longest prompt."""
CONTROLS = tuple(field.name for field in fields(ChannelSampling) if field.name != "do_sample")
REQUEST = (
    Tensor("target_text", "bytes", (1, 1)),
    Tensor("reference_wav", "float32", (1, REFERENCE), optional=True),
    Tensor("reference_wav_len", "int32", (1, 1), optional=True),
    Tensor("reference_text", "bytes", (1, 1), optional=True),
    Tensor("reference_wav_2", "float32", (1, SECOND), optional=True),
    Tensor("reference_wav_2_len", "int32", (1, 1), optional=True),
    Tensor("reference_text_2", "bytes", (1, 1), optional=True),
    Tensor("normalize", "bytes", (1, 1), optional=True),
    *(Tensor(name, "float32", (1, CHANNELS), optional=True) for name in CONTROLS),
    Tensor("max_seconds", "float32", (1, 1), optional=True),
    Tensor("seed", "int64", (1, 1), optional=True),
)
"""`normalize` names the release whose text cleaning to use, "" for none. A control of sampling holds one value, or one
for each channel."""


@dataclass(frozen=True)
class Prepared:
    """A checked request, ready for the language model.

    Args:
        rows: the delayed prompt `[rows, channels]`.
        reference: codes `[channels, codes]` of the reference recordings; `codes` is 0 without one.
        longest: the limit of prompt and speech together, in rows.
    """

    rows: np.ndarray
    reference: np.ndarray
    sampling: tuple[ChannelSampling, ...]
    longest: int
    seed: int


def prepare(call: Call, request: Arrays, config: MossConfig, tokenizer: DialogueTokenizer) -> Prepared:
    """Return the prompt and controls of one request; InvalidRequest names the field at fault."""
    check_known(request, REQUEST)
    lm = config.lm
    text = check_dialogue(read_text(request, "target_text", LONGEST_TEXT))
    transcript, wav = read_references(request)
    release = read_text(request, "normalize")
    if release and release not in CLEANINGS:
        raise InvalidRequest(
            "normalize", f"asked for {release!r}; the supported releases are {' and '.join(CLEANINGS)}"
        )
    dialogue = transcript + text
    ids = tokenizer.encode(prompt_text(normalize(dialogue, release) if release else dialogue))
    codes = encode(call, config.codec, wav) if wav is not None else np.zeros((lm.channels, 0), np.int64)
    frames = np.tile(np.asarray(lm.pads, np.int64), (len(ids), 1))
    frames[:, 0] = ids
    rows = delayed(np.concatenate([frames, frames_of(codes, lm)]), lm.pads)
    return Prepared(
        rows,
        codes,
        read_controls(request, config.sampling),
        row_limit(request, len(rows), config),
        read_seed(request),
    )


def read_references(request: Arrays) -> tuple[str, np.ndarray | None]:
    """Return the transcript of the references, and their sound at 16 kHz `[samples]` one after the other.

    They are "" and None without references. One recording may hold both speakers, then with a tagged transcript; two
    recordings hold one speaker each.
    """
    first, second = (has_sound(request, name) for name in ("reference_wav", "reference_wav_2"))
    texts = [read_text(request, name, LONGEST_TEXT).strip() for name in ("reference_text", "reference_text_2")]
    for name, text, sound in zip(("", "_2"), texts, (first, second), strict=True):
        if sound and not text:
            raise InvalidRequest(f"reference_text{name}", f"is missing; send the transcript of reference_wav{name}")
        if text and not sound:
            raise InvalidRequest(f"reference_text{name}", f"came without reference_wav{name}; send both or neither")
    if second and not first:
        raise InvalidRequest(
            "reference_wav_2", "came without reference_wav; send the first speaker's recording as well"
        )
    if not first:
        return "", None
    fields = ("reference_text", "reference_text_2")
    texts = [text and check_dialogue(text, field) for field, text in zip(fields, texts, strict=True)]
    if not second:
        return texts[0], read_sound(request, "reference_wav")
    tagged = [text if "[S" in text else f"[S{n}]{text}" for n, text in enumerate(texts, 1)]
    both = [read_sound(request, name) for name in ("reference_wav", "reference_wav_2")]
    return "".join(tagged), np.concatenate(both)


def read_controls(request: Arrays, defaults: tuple[ChannelSampling, ...]) -> tuple[ChannelSampling, ...]:
    """Return the sampling of each channel: the defaults, overridden by the controls of the request."""
    controls = list(defaults)
    for name in CONTROLS:
        values = request[name].reshape(-1) if name in request else np.zeros(0)
        if values.size not in (0, 1, len(defaults)):
            raise InvalidRequest(
                name, f"has {values.size} values; send one, or one for each of {len(defaults)} channels"
            )
        for channel in range(len(defaults) if values.size else 0):
            value = float(values[channel if values.size > 1 else 0])
            try:
                changed: dict[str, Any] = {name: int(value) if name == "top_k" else value}
                controls[channel] = replace(controls[channel], **changed)
            except (ConfigError, ValueError, OverflowError):
                raise InvalidRequest(name, f"cannot be {value:g}; {RANGES}") from None
    return tuple(controls)


def row_limit(request: Arrays, rows: int, config: MossConfig) -> int:
    """Return the number of rows, prompt included, at which generation stops.

    Raises InvalidRequest when the prompt alone is too long.
    """
    seconds = read_number(request, "max_seconds", 0.0)
    if seconds < 0:
        raise InvalidRequest("max_seconds", f"is {seconds:g}; send a number of seconds, or 0 for the model's limit")
    prompt, longest = rows - config.lm.delay, min(config.longest, config.lm.max_position_embeddings)
    limit = min(ROWS.hi, longest - 2 * config.lm.delay - 1)
    if prompt > limit:
        raise InvalidRequest(
            "target_text",
            f"the prompt has {prompt} positions, references included; the limit is {limit}; split the text, or send "
            f"shorter references",
        )
    if not seconds:
        return longest
    codes = round(seconds * INPUT_RATE / config.codec.code_samples)
    return min(longest, prompt + max(codes, 1) + config.lm.delay)


def read_seed(request: Arrays) -> int:
    """Return the seed, by default 0."""
    seed = int(read_number(request, "seed", 0))
    if seed < 0:
        raise InvalidRequest("seed", f"is {seed}; a seed is 0 or more")
    return seed


def sampling_array(sampling: tuple[ChannelSampling, ...]) -> np.ndarray:
    """Return the sampling of each channel as an array for the next host step, float32 `[1, channels, 5]`."""
    return np.array([[[float(s.do_sample), *(float(getattr(s, n)) for n in CONTROLS)] for s in sampling]], np.float32)


def sampling_of(array: np.ndarray, config: AsteroidConfig) -> tuple[ChannelSampling, ...]:
    """Return the sampling of each channel from an array `[channels, 5]` made by `sampling_array`."""
    assert len(array) == config.channels
    sampling = []
    for do_sample, *values in array.tolist():
        named = dict(zip(CONTROLS, values, strict=True))
        sampling.append(ChannelSampling(bool(do_sample), **named | {"top_k": int(named["top_k"])}))
    return tuple(sampling)
