"""A request's tensors turned into what the networks take: segments of phones, a speaker, and the controls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tritone.errors import InvalidRequest
from tritone.families.bert_vits2.text.bert import STYLE_WEIGHT
from tritone.families.bert_vits2.text.filler import fillers
from tritone.families.bert_vits2.text.frontend import MIXED, clean
from tritone.families.bert_vits2.text.mixed import split_languages
from tritone.families.bert_vits2.text.symbols import LANGUAGES, Cleaned, language_of, to_ids
from tritone.families.bert_vits2.voice import Voice
from tritone.request.fields import check_known, read_number, read_text
from tritone.stage import Arrays, Tensor
from tritone.text.split import SEGMENT_LENGTH, check_text, split_text, spoken_length

TEXTS = ("target_text", "speaker", "language", "phones", "tones", "word2ph", "style_text")
NUMBERS = {
    "sdp_ratio": (0.2, 0.0, 1.0),
    "noise_scale": (0.2, 0.0, 2.0),
    "noise_scale_w": (0.9, 0.0, 2.0),
    "length_scale": (1.0, 0.2, 5.0),
    "speed": (1.0, 0.2, 5.0),
    "style_weight": (STYLE_WEIGHT, 0.0, 1.0),
}
"""Default, least and largest value of each control; the defaults are those of the published interface."""
REQUEST = (
    *(Tensor(name, "bytes", (1, 1), optional=True) for name in TEXTS),
    *(Tensor(name, "float32", (1, 1), optional=True) for name in NUMBERS),
    Tensor("seed", "int64", (1, 1), optional=True),
)
BERT_NOISE, DURATION_NOISE, PRIOR_NOISE = range(3)
"""What a segment draws, each from a generator of its own."""
SENTENCE_END = tuple(".!?…。！？\n")


class Controls(NamedTuple):
    """How to speak; values are those float32 can hold, which is how they travel between models.

    Args:
        length_scale: above 1 slower; sdp_ratio: share of the stochastic predictor in the log durations.
        noise_scale, noise_scale_w: temperature of the prior and of the durations.
    """

    sdp_ratio: float
    noise_scale: float
    noise_scale_w: float
    length_scale: float


@dataclass(frozen=True)
class Prepared:
    """What synthesis needs of a request.

    Args:
        segments: what is spoken one after another, each in parts of one language.
        sid: row of the speaker.
        style_text: a sentence whose BERT features are mixed in, `style_weight` of them.
    """

    segments: list[list[Cleaned]]
    sid: int
    controls: Controls
    seed: int
    style_text: str = ""
    style_weight: float = STYLE_WEIGHT


def prepare(request: Arrays, voice: Voice) -> Prepared:
    """Segments, speaker and controls of one request; InvalidRequest names the field at fault."""
    check_known(request, REQUEST)
    numbers = {name: bounded(request, name) for name in NUMBERS}
    if "speed" in request and "length_scale" in request:
        raise InvalidRequest("speed", "came together with length_scale, which is its inverse; send one of the two")
    seed = int(read_number(request, "seed", 0))
    if seed < 0:
        raise InvalidRequest("seed", f"asked for {seed}, a seed is 0 or more")
    scale = numbers["length_scale"] / numbers["speed"]
    controls = (numbers["sdp_ratio"], numbers["noise_scale"], numbers["noise_scale_w"], scale)
    return Prepared(
        [[read_phones(request)]] if read_text(request, "phones").strip() else read_segments(request, voice),
        voice.sid(read_text(request, "speaker")),
        Controls(*(float(np.float32(value)) for value in controls)),
        seed,
        read_text(request, "style_text"),
        numbers["style_weight"],
    )


def bounded(request: Arrays, name: str) -> float:
    """Return a control within its limits."""
    default, least, largest = NUMBERS[name]
    value = read_number(request, name, default)
    if not least <= value <= largest:
        raise InvalidRequest(name, f"asked for {value:g}, the range is {least:g} to {largest:g}")
    return value


def read_segments(request: Arrays, voice: Voice) -> list[list[Cleaned]]:
    """Return the text in segments of about a sentence, cleaned."""
    for name in ("tones", "word2ph"):
        if read_text(request, name).strip():
            raise InvalidRequest(name, "came without phones; send phones, tones and word2ph together or none of them")
    text = check_text(read_text(request, "target_text"))
    language = read_text(request, "language").strip() or MIXED
    found = segments(text, language if language.upper() == MIXED else language_of(language))
    return [[clean(part, name, voice.bert.tokenize) for name, part in segment] for segment in found]


def segments(text: str, language: str) -> list[list[tuple[str, str]]]:
    """Languages and texts of each segment: whole sentences, or less where a sentence is very long.

    Sentences of several languages stay together, so that their parts are spoken in one breath.
    """
    if language.upper() != MIXED:
        return [[(language, piece)] for piece in split_text(text)]
    packed: list[list[tuple[str, str]]] = []
    open_length = 0
    for name, part in split_languages(text):
        for piece in split_text(part):
            length = spoken_length(piece)
            if open_length and open_length + length <= SEGMENT_LENGTH:
                packed[-1].append((name, piece))
            else:
                packed.append([(name, piece)])
                open_length = 0
            open_length = 0 if piece.endswith(SENTENCE_END) else open_length + length
    return packed


def read_phones(request: Arrays) -> Cleaned:
    """Return a text that was cleaned elsewhere: phones, tones and word2ph as published transcripts have them.

    `target_text` is then what the BERT encoder is given.
    """
    language = language_of(read_text(request, "language") or "none")
    phones = tuple(read_text(request, "phones").split())
    counts: dict[str, tuple[int, ...]] = {}
    for name in ("tones", "word2ph"):
        try:
            counts[name] = tuple(map(int, read_text(request, name).split()))
        except ValueError as error:
            raise InvalidRequest(name, f"holds what is no whole number: {error}; send numbers with spaces") from None
        if not counts[name] or min(counts[name]) < 0:
            raise InvalidRequest(name, "needs whole numbers from 0 on; send phones, tones and word2ph together")
    return Cleaned(read_text(request, "target_text"), language, phones, counts["tones"], counts["word2ph"])


def text_arrays(prepared: Prepared, index: int, voice: Voice) -> Arrays:
    """Return the text encoder's inputs of one segment but the speaker, each with a batch of 1.

    Every other id is a blank, at joins too; a checkpoint trained without them is given the phones between.
    """
    parts = prepared.segments[index]
    ids = to_ids(parts)
    fill = fillers(voice.filler, (prepared.seed, index, BERT_NOISE))
    features = voice.bert(parts, fill, prepared.style_text, prepared.style_weight)
    berts = {f"bert_{row}": features[language][None] for language, row in LANGUAGES.items()}
    arrays = {"x": ids.phones[None], "t": ids.tones[None], "language": ids.languages[None], **berts}
    if voice.config.data.add_blank:
        return arrays
    return {name: np.ascontiguousarray(array[..., 1::2]) for name, array in arrays.items()}


def noise(seed: int, index: int, kind: int, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal noise of one segment, float32; what is drawn does not depend on the request's other segments."""
    return np.random.default_rng((seed, index, kind)).standard_normal(shape, np.float32)
