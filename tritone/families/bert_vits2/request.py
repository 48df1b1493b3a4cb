"""A request's tensors turned into inputs of the networks: segments of phones, a speaker, and the controls."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from tritone.errors import InvalidRequest
from tritone.families.bert_vits2.emotion import CLUSTERS, PROMPTS
from tritone.families.bert_vits2.text.bert import STYLE_WEIGHT
from tritone.families.bert_vits2.text.cutting import cutter
from tritone.families.bert_vits2.text.filler import fillers
from tritone.families.bert_vits2.text.frontend import MIXED, clean
from tritone.families.bert_vits2.text.mixed import spoken_parts
from tritone.families.bert_vits2.text.symbols import LANGUAGES, Cleaned, language_of, to_ids
from tritone.families.bert_vits2.voice import REFERENCE_RATES, Voice
from tritone.request.fields import check_known, read_number, read_text
from tritone.stage import Arrays, Axis, Tensor
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
"""Default, smallest and largest value of each control; the defaults are those of the published interface."""
RECORDING = Axis("reference_samples", 1, 80000, 30 * REFERENCE_RATES[1])
EMBEDDING = Axis("emotion_numbers", 1, PROMPTS.numbers, CLUSTERS.numbers)
REQUEST = (
    *(Tensor(name, "bytes", (1, 1), optional=True) for name in TEXTS),
    *(Tensor(name, "float32", (1, 1), optional=True) for name in NUMBERS),
    Tensor("seed", "int64", (1, 1), optional=True),
    Tensor("emotion", "float32", (1, EMBEDDING), optional=True),
    Tensor("emotion_id", "int64", (1, 1), optional=True),
    Tensor("reference_wav", "float32", (1, RECORDING), optional=True),
    Tensor("reference_wav_len", "int32", (1, 1), optional=True),
    Tensor("reference_rate", "int32", (1, 1), optional=True),
)
"""One list for every checkpoint: what one of them cannot take is refused with the reason."""
LONGEST_STYLE = 500
"""The most characters of `style_text`: BERT encoders take 512 tokens, and some have one for each character."""
BERT_NOISE, DURATION_NOISE, PRIOR_NOISE = range(3)
"""Purposes of a segment's noise; each has a random generator of its own."""
SENTENCE_END = tuple(".!?…。！？\n")


class Controls(NamedTuple):
    """Controls of synthesis. Values are exact in float32, because they travel between models as float32.

    Args:
        sdp_ratio: share of the stochastic predictor in the log durations.
        noise_scale, noise_scale_w: temperature of the prior and of the durations.
        length_scale: factor of the durations; values above 1 are slower.
    """

    sdp_ratio: float
    noise_scale: float
    noise_scale_w: float
    length_scale: float


@dataclass(frozen=True)
class Prepared:
    """A checked request, ready for the networks.

    Args:
        segments: the text in segments, each a list of cleaned texts of one language.
        speaker: id of the speaker, or the spectrogram `[1, bins, frames]` of a recording of it.
        style_text: a sentence whose BERT features are mixed in with the share `style_weight`.
        emotion: the text encoder's emotion inputs.
    """

    segments: list[list[Cleaned]]
    speaker: int | np.ndarray
    controls: Controls
    seed: int
    style_text: str = ""
    style_weight: float = STYLE_WEIGHT
    emotion: Arrays = field(default_factory=dict)


def prepare(request: Arrays, voice: Voice) -> Prepared:
    """Return the segments, speaker and controls of one request; InvalidRequest names the field at fault."""
    check_known(request, REQUEST)
    numbers = {name: bounded(request, name) for name in NUMBERS}
    if "speed" in request and "length_scale" in request:
        raise InvalidRequest("speed", "came together with length_scale, which is its inverse; send one of the two")
    seed = int(read_number(request, "seed", 0))
    if seed < 0:
        raise InvalidRequest("seed", f"is {seed}; a seed is 0 or more")
    scale = numbers["length_scale"] / numbers["speed"]
    controls = (numbers["sdp_ratio"], numbers["noise_scale"], numbers["noise_scale_w"], scale)
    return Prepared(
        [[read_phones(request)]] if read_text(request, "phones").strip() else read_segments(request, voice),
        voice.speaker(request),
        Controls(*(float(np.float32(value)) for value in controls)),
        seed,
        read_text(request, "style_text", LONGEST_STYLE),
        numbers["style_weight"],
        voice.emotion(request),
    )


def bounded(request: Arrays, name: str) -> float:
    """Return a control; raise InvalidRequest if it is out of range."""
    default, least, largest = NUMBERS[name]
    value = read_number(request, name, default)
    if not least <= value <= largest:
        raise InvalidRequest(name, f"is {value:g}; the range is {least:g} to {largest:g}")
    return value


def read_segments(request: Arrays, voice: Voice) -> list[list[Cleaned]]:
    """Return the text in cleaned segments of about a sentence."""
    for name in ("tones", "word2ph"):
        if read_text(request, name).strip():
            raise InvalidRequest(name, "came without phones; send phones, tones and word2ph together or none of them")
    text = check_text(read_text(request, "target_text"))
    language = read_text(request, "language").strip() or MIXED
    texts = segments(text, language if language.upper() == MIXED else language_of(language))
    return [[clean(part, name, voice.bert.tokenize) for name, part in segment] for segment in texts]


def segments(text: str, language: str) -> list[list[tuple[str, str]]]:
    """Return the languages and texts of each segment: whole sentences, or parts of very long ones.

    Numbers are put in words before, so that none is cut. The languages of one sentence stay in one segment, so that the
    sentence has one intonation.
    """
    language = MIXED if language.upper() == MIXED else language_of(language)
    parts = spoken_parts(text, language)
    if language != MIXED and len(parts) == 1:
        name, stretch = parts[0]
        return [[(name, part)] for part in split_text(stretch, words=cutter(name))]
    packed: list[list[tuple[str, str]]] = []
    open_length = 0
    for name, stretch in parts:
        for part in split_text(stretch, words=cutter(name)):
            length = spoken_length(part)
            if open_length and open_length + length <= SEGMENT_LENGTH:
                packed[-1].append((name, part))
            else:
                packed.append([(name, part)])
                open_length = 0
            open_length = 0 if part.endswith(SENTENCE_END) else open_length + length
    return packed


def read_phones(request: Arrays) -> Cleaned:
    """Return a text cleaned by the client: phones, tones and word2ph as in published transcripts.

    `target_text` is then the input of the BERT encoder.
    """
    language = read_text(request, "language")
    if not language.strip():
        raise InvalidRequest("language", f"is missing; phones need one of {', '.join(LANGUAGES)}")
    phones = tuple(read_text(request, "phones").split())
    counts: dict[str, tuple[int, ...]] = {}
    for name in ("tones", "word2ph"):
        values = read_text(request, name).split()
        try:
            counts[name] = tuple(map(int, values))
        except ValueError:
            text = " ".join(values)[:40]
            raise InvalidRequest(
                name, f"has a value that is not a whole number, in {text!r}; send numbers separated by spaces"
            ) from None
        if not counts[name]:
            raise InvalidRequest(name, "is missing; send phones, tones and word2ph together")
        if min(counts[name]) < 0:
            raise InvalidRequest(name, f"has the negative number {min(counts[name])}; the numbers are 0 or more")
    return Cleaned(read_text(request, "target_text"), language_of(language), phones, counts["tones"], counts["word2ph"])


def text_arrays(prepared: Prepared, index: int, voice: Voice) -> Arrays:
    """Return the text encoder's inputs of one segment except the speaker, each with a batch of 1.

    Every other id is a blank, also where texts are joined. A checkpoint trained without blanks gets the phones alone.
    """
    parts = prepared.segments[index]
    ids = to_ids(parts)
    fill = fillers(voice.filler, (prepared.seed, index, BERT_NOISE))
    features = voice.bert(parts, fill, prepared.style_text, prepared.style_weight)
    berts = {f"bert_{number}": features[language][None] for language, number in LANGUAGES.items()}
    arrays = {"x": ids.phones[None], "t": ids.tones[None], "language": ids.languages[None], **berts}
    if not voice.config.data.add_blank:
        arrays = {name: np.ascontiguousarray(array[..., 1::2]) for name, array in arrays.items()}
    return arrays | prepared.emotion


def noise(seed: int, index: int, purpose: int, shape: tuple[int, ...]) -> np.ndarray:
    """Return standard normal noise of one segment, float32; it does not depend on the request's other segments."""
    return np.random.default_rng((seed, index, purpose)).standard_normal(shape, np.float32)
