"""A request's tensors turned into the prompt's rows, the sampling of each channel, and the voice to speak in."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tritone.errors import ConfigError, InvalidRequest
from tritone.families.moss_ttsd.codec.config import INPUT_RATE
from tritone.families.moss_ttsd.codec.windows import encode
from tritone.families.moss_ttsd.dialogue import CLEANINGS, check_dialogue, normalize, prompt_text
from tritone.families.moss_ttsd.lm.config import AsteroidConfig, ChannelSampling
from tritone.families.moss_ttsd.lm.delay import delayed, frames_of
from tritone.families.moss_ttsd.lm.stages import ROWS
from tritone.families.moss_ttsd.text_tokenizer import DialogueTokenizer
from tritone.request.fields import check_known, read_number, read_sound, read_text, sound_length
from tritone.stage import Arrays, Axis, Call, Tensor

if TYPE_CHECKING:
    from tritone.families.moss_ttsd.checkpoint import MossCheckpoint

REFERENCE = Axis("reference_samples", 1, 80000, 480000)
SECOND = Axis("second_reference_samples", 1, 80000, 480000)
CHANNELS = Axis("channels", 1, 8, 64)
CONTROLS = tuple(one.name for one in fields(ChannelSampling) if one.name != "do_sample")
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
"""`normalize`: the release whose way of cleaning text to use, "" for none. Sampling: one value, or one a channel."""


@dataclass(frozen=True)
class Prepared:
    """What synthesis needs of a request.

    Args:
        rows: the delayed prompt `[rows, channels]`. reference: codes `[channels, codes]` of the voices, maybe none.
        longest: rows of prompt and speech together.
    """

    rows: np.ndarray
    reference: np.ndarray
    sampling: tuple[ChannelSampling, ...]
    longest: int
    seed: int


def prepare(call: Call, request: Arrays, checkpoint: MossCheckpoint, tokenizer: DialogueTokenizer) -> Prepared:
    """Return the prompt and controls of one request; InvalidRequest names the field at fault."""
    check_known(request, REQUEST)
    config = checkpoint.lm
    text = read_text(request, "target_text")
    check_dialogue(text)
    transcript, wav = read_references(request)
    release = read_text(request, "normalize")
    if release and release not in CLEANINGS:
        raise InvalidRequest("normalize", f"asked for {release!r}; there are {', '.join(CLEANINGS)}, or nothing")
    said = transcript + text
    ids = tokenizer.encode(prompt_text(normalize(said, release) if release else said))
    codes = encode(call, checkpoint.codec, wav) if wav is not None else np.zeros((config.channels, 0), np.int64)
    frames = np.tile(np.asarray(config.pads, np.int64), (len(ids), 1))
    frames[:, 0] = ids
    rows = delayed(np.concatenate([frames, frames_of(codes, config)]), config.pads)
    return Prepared(
        rows,
        codes,
        read_controls(request, checkpoint.sampling),
        row_limit(request, len(rows), checkpoint),
        read_seed(request),
    )


def read_references(request: Arrays) -> tuple[str, np.ndarray | None]:
    """(transcript of the references, their sound one after the other at 16 kHz), or nothing of both.

    One recording may hold both speakers, its transcript tagged. Two hold one each.
    """
    for name in ("reference_wav", "reference_wav_2"):
        if name in request and sound_length(request, name) == 0:
            raise InvalidRequest(name, "is empty: it has no samples; send a recording, or leave it out")
    first, second = (sound_length(request, name) > 0 for name in ("reference_wav", "reference_wav_2"))
    texts = [read_text(request, name).strip() for name in ("reference_text", "reference_text_2")]
    for name, text, sound in zip(("", "_2"), texts, (first, second), strict=True):
        if sound and not text:
            raise InvalidRequest(f"reference_text{name}", f"is missing; send what reference_wav{name} says")
        if text and not sound:
            raise InvalidRequest(f"reference_text{name}", f"came without reference_wav{name}; send both or neither")
    if second and not first:
        raise InvalidRequest(
            "reference_wav_2", "came without reference_wav; send the first speaker's recording as well"
        )
    if not first:
        return "", None
    for name, text in zip(("", "_2"), texts, strict=True):
        if text:
            check_dialogue(text, f"reference_text{name}")
    if not second:
        return texts[0], read_sound(request, "reference_wav")
    tagged = [text if "[S" in text else f"[S{n}]{text}" for n, text in enumerate(texts, 1)]
    both = [read_sound(request, name) for name in ("reference_wav", "reference_wav_2")]
    return "".join(tagged), np.concatenate(both)


def read_controls(request: Arrays, usual: tuple[ChannelSampling, ...]) -> tuple[ChannelSampling, ...]:
    """Return how each channel is sampled: as the checkpoint says, but for what the request says."""
    found = list(usual)
    for name in CONTROLS:
        values = request[name].reshape(-1) if name in request else np.zeros(0)
        if values.size not in (0, 1, len(usual)):
            raise InvalidRequest(name, f"has {values.size} values; send one, or one for each of {len(usual)} channels")
        for channel in range(len(usual) if values.size else 0):
            value = float(values[channel if values.size > 1 else 0])
            try:
                changed: dict[str, Any] = {name: int(value) if name == "top_k" else value}
                found[channel] = replace(found[channel], **changed)
            except (ConfigError, ValueError, OverflowError):
                raise InvalidRequest(name, f"cannot be {value:g}; see what a sampling can be: {CONTROLS}") from None
    return tuple(found)


def row_limit(request: Arrays, rows: int, checkpoint: MossCheckpoint) -> int:
    """Return rows of prompt and speech at which generation stops; InvalidRequest when the prompt alone is too long."""
    seconds = read_number(request, "max_seconds", 0.0)
    if seconds < 0:
        raise InvalidRequest(
            "max_seconds", f"asked for {seconds:g}; it is a number of seconds, 0 for the model's limit"
        )
    heard, longest = rows - checkpoint.lm.delay, min(checkpoint.longest, checkpoint.lm.max_position_embeddings)
    room = min(ROWS.hi, longest - 2 * checkpoint.lm.delay - 1)
    if heard > room:
        raise InvalidRequest(
            "target_text", f"makes, with its references, a prompt of {heard} positions; there is room for {room}"
        )
    if not seconds:
        return longest
    codes = round(seconds * INPUT_RATE / checkpoint.codec.code_samples)
    return min(longest, heard + max(codes, 1) + checkpoint.lm.delay)


def read_seed(request: Arrays) -> int:
    """Return the seed, 0 if none was sent."""
    seed = int(read_number(request, "seed", 0))
    if seed < 0:
        raise InvalidRequest("seed", f"asked for {seed}, a seed is 0 or more")
    return seed


def sampling_array(sampling: tuple[ChannelSampling, ...]) -> np.ndarray:
    """float32 `[1, channels, 5]`: the settings as the ensemble's next step takes them."""
    return np.array(
        [[[float(one.do_sample), *(float(getattr(one, n)) for n in CONTROLS)] for one in sampling]], np.float32
    )


def sampling_of(array: np.ndarray, config: AsteroidConfig) -> tuple[ChannelSampling, ...]:
    """Return the settings in such an array `[channels, 5]`."""
    assert len(array) == config.channels
    found = []
    for do_sample, *values in array.tolist():
        named = dict(zip(CONTROLS, values, strict=True))
        found.append(ChannelSampling(bool(do_sample), **named | {"top_k": int(named["top_k"])}))
    return tuple(found)
