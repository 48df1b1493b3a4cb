"""A request's tensors turned into inputs of the networks: text tokens per segment, a voice, speed and seed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from tritone.errors import InvalidRequest
from tritone.families.cosyvoice.config.common import CosyVoiceConfig
from tritone.families.cosyvoice.speak.modes import Mode, find_mode, mode_inputs, usual_mode
from tritone.families.cosyvoice.speak.text import TextFrontend
from tritone.families.cosyvoice.voices.reference import reference_voice, source_tokens
from tritone.families.cosyvoice.voices.speakers import Voices
from tritone.families.cosyvoice.voices.voice import Voice
from tritone.request.fields import check_known, has_sound, read_number, read_sound, read_text
from tritone.stage import Arrays, Axis, Call, Tensor
from tritone.text.split import check_text

SPEEDS = (0.5, 2.0)
REFERENCE_RATE = 16000
REFERENCE = Axis("reference_samples", 1, 80000, 480000)
SOURCE = Axis("source_samples", 1, 80000, 480000)
REQUEST = (
    Tensor("target_text", "bytes", (1, 1), optional=True),
    Tensor("mode", "bytes", (1, 1), optional=True),
    Tensor("speaker", "bytes", (1, 1), optional=True),
    Tensor("reference_wav", "float32", (1, REFERENCE), optional=True),
    Tensor("reference_wav_len", "int32", (1, 1), optional=True),
    Tensor("reference_text", "bytes", (1, 1), optional=True),
    Tensor("instruct_text", "bytes", (1, 1), optional=True),
    Tensor("source_wav", "float32", (1, SOURCE), optional=True),
    Tensor("source_wav_len", "int32", (1, 1), optional=True),
    Tensor("speed", "float32", (1, 1), optional=True),
    Tensor("seed", "int64", (1, 1), optional=True),
    Tensor("text_frontend", "bool", (1, 1), optional=True),
)
"""The fields that a mode requires are checked once the mode is known; only voice conversion has no text."""


@dataclass(frozen=True)
class Prepared:
    """A valid request: text tokens of each segment, the voice, speed and seed.

    `source` are the speech tokens of voice conversion, which has no text; int64 `[speech_tokens]`.
    """

    segments: list[list[int]]
    voice: Voice
    speed: float
    seed: int
    source: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))


def prepare(
    call: Call,
    request: Arrays,
    config: CosyVoiceConfig,
    front: TextFrontend,
    voices: Voices,
    in_pieces: bool = False,
) -> Prepared:
    """Return text tokens, voice and controls of one request; InvalidRequest names the field at fault.

    A request without a mode gets the one its inputs imply. If the text arrives `in_pieces`, `target_text` is ignored
    and there are no segments.
    """
    check_known(request, REQUEST)
    asked = read_text(request, "mode").strip()
    converts = asked == "vc" or (not asked and has_sound(request, "source_wav"))
    if converts and in_pieces:
        raise InvalidRequest("mode", "vc has no text that could come in pieces; send one request without sequence_id")
    text = "" if converts or in_pieces else check_text(read_text(request, "target_text"))
    speed = read_number(request, "speed", 1.0)
    if not SPEEDS[0] <= speed <= SPEEDS[1]:
        raise InvalidRequest("speed", f"asked for {speed:g}, the range is {SPEEDS[0]:g} to {SPEEDS[1]:g}")
    seed = int(read_number(request, "seed", 0))
    if seed < 0:
        raise InvalidRequest("seed", f"asked for {seed}, a seed is 0 or more")
    transcript = read_text(request, "reference_text").strip()
    instruct = read_text(request, "instruct_text").strip()
    normalize = read_frontend(request, front)
    if asked:
        find_mode(asked, config.version)  # before any network runs
    voice = read_voice(call, request, config, voices)
    check_codes(voice, config, "reference_wav" if has_sound(request, "reference_wav") else "speaker")
    mode = find_mode(asked or usual_mode(config.version, voice, transcript, instruct, converts), config.version)
    check_fields(mode, request)
    source = source_tokens(call, read_sound(request, "source_wav"), REFERENCE_RATE) if converts else None
    inputs = mode_inputs(
        mode,
        front,
        voice,
        text=None if in_pieces else text,
        transcript=transcript,
        instruct_text=instruct,
        source=source,
        normalize=normalize,
    )
    return Prepared(inputs.segments, inputs.voice, speed, seed, inputs.source)


def read_frontend(request: Arrays, front: TextFrontend) -> bool:
    """Return whether numbers are put in words and the text is divided; as published, False switches both off."""
    normalize = bool(read_number(request, "text_frontend", True))
    if not normalize and front.reads_phones:
        raise InvalidRequest("text_frontend", "cannot be false: this checkpoint reads phones, which are made of words")
    return normalize


def check_fields(mode: Mode, request: Arrays) -> None:
    """Raise InvalidRequest for a field without effect in the mode, or a required field that is missing."""
    if "instruct_text" not in mode.needs and read_text(request, "instruct_text").strip():
        raise InvalidRequest("instruct_text", f"has no effect in mode {mode.name}; send it in an instruct mode")
    if "instruct_text" in mode.needs:
        check_text(read_text(request, "instruct_text"), "instruct_text")
    if "source_wav" in mode.needs:
        if read_text(request, "target_text").strip():
            raise InvalidRequest("target_text", f"has no effect in mode {mode.name}, which says what source_wav says")
        if "text_frontend" in request:
            raise InvalidRequest("text_frontend", f"has no effect in mode {mode.name}, which has no text")
        if not has_sound(request, "source_wav"):
            raise InvalidRequest("source_wav", "is missing; voice conversion needs the recording to convert")
    elif has_sound(request, "source_wav"):
        raise InvalidRequest("source_wav", f"has no effect in mode {mode.name}; it is what mode vc converts")
    if "speaker" in mode.needs and has_sound(request, "reference_wav"):
        raise InvalidRequest("reference_wav", f"mode {mode.name} speaks with a registered speaker; send that")


def read_voice(call: Call, request: Arrays, config: CosyVoiceConfig, voices: Voices) -> Voice:
    """Return the registered speaker, or the voice of the reference audio.

    Without either, the first registered speaker.
    """
    name = read_text(request, "speaker")
    if not has_sound(request, "reference_wav"):
        if read_text(request, "reference_text"):
            raise InvalidRequest("reference_text", "came without reference_wav; send both or neither")
        return stored(name, voices)
    if name:
        raise InvalidRequest("speaker", "came together with reference_wav; send one of the two")
    recording = read_sound(request, "reference_wav")
    return voices.recent.get(
        recording,
        REFERENCE_RATE,
        read_text(request, "reference_text"),
        lambda: reference_voice(call, recording, REFERENCE_RATE, config),
    )


def check_codes(voice: Voice, config: CosyVoiceConfig, field: str) -> None:
    """Raise InvalidRequest for a voice whose prompt has codes outside the checkpoint's vocabulary."""
    codes = np.concatenate([voice.speech_token, voice.llm_speech_token])
    foreign = codes[(codes < 0) | (codes >= config.flow.vocab_size)]
    if len(foreign):
        raise InvalidRequest(
            field,
            f"the prompt of voice {voice.name!r} has speech token {foreign[0]}; this checkpoint's are 0 to "
            f"{config.flow.vocab_size - 1}, so another version's tokenizer made it. Make it again with this one's",
        )


def stored(name: str, voices: Voices) -> Voice:
    """Return the registered voice of that name; "" means the first one."""
    if not name and not voices.names:
        raise InvalidRequest("speaker", "this checkpoint has no registered speakers; send reference_wav")
    return voices.get(name or voices.names[0])


def registered(name: str, front: TextFrontend, voices: Voices) -> Voice:
    """Return the voice of that name ("" means the first one) with its prompt text in ids."""
    voice = stored(name, voices)
    if voice.prompt_text is None:
        return voice
    return replace(voice, prompt_ids=np.array(front.encode_prompt(voice.prompt_text), np.int64))
