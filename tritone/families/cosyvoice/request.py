"""A request's tensors turned into what the networks take: text tokens per segment, a voice, speed and seed."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from tritone.audio import check_reference
from tritone.errors import InvalidRequest
from tritone.families.cosyvoice.config import CosyVoiceConfig
from tritone.families.cosyvoice.modes import find_mode, mode_inputs, usual_mode
from tritone.families.cosyvoice.reference import reference_voice
from tritone.families.cosyvoice.speakers import Voice, Voices
from tritone.families.cosyvoice.text import TextFrontend
from tritone.stage import Arrays, Axis, Call, Tensor
from tritone.text.split import check_text

SPEEDS = (0.5, 2.0)
REFERENCE_RATE = 16000
REFERENCE = Axis("reference_samples", 1, 80000, 480000)
REQUEST = (
    Tensor("target_text", "bytes", (1, 1)),
    Tensor("speaker", "bytes", (1, 1), optional=True),
    Tensor("reference_wav", "float32", (1, REFERENCE), optional=True),
    Tensor("reference_wav_len", "int32", (1, 1), optional=True),
    Tensor("reference_text", "bytes", (1, 1), optional=True),
    Tensor("speed", "float32", (1, 1), optional=True),
    Tensor("seed", "int64", (1, 1), optional=True),
)


@dataclass(frozen=True)
class Prepared:
    """What synthesis needs of a request: text tokens of each segment, the voice, speed and seed."""

    segments: list[list[int]]
    voice: Voice
    speed: float
    seed: int


def prepare(call: Call, request: Arrays, config: CosyVoiceConfig, front: TextFrontend, voices: Voices) -> Prepared:
    """Text tokens, voice and controls of one request; InvalidRequest names the field at fault."""
    unknown = sorted(set(request) - {tensor.name for tensor in REQUEST})
    if unknown:
        raise InvalidRequest(unknown[0], f"no such input; inputs are {', '.join(tensor.name for tensor in REQUEST)}")
    text = check_text(read_text(request, "target_text"))
    speed = read_number(request, "speed", 1.0)
    if not SPEEDS[0] <= speed <= SPEEDS[1]:
        raise InvalidRequest("speed", f"asked for {speed:g}, the range is {SPEEDS[0]:g} to {SPEEDS[1]:g}")
    seed = int(read_number(request, "seed", 0))
    if seed < 0:
        raise InvalidRequest("seed", f"asked for {seed}, a seed is 0 or more")
    transcript = read_text(request, "reference_text").strip()
    voice = read_voice(call, request, config, voices)
    mode = find_mode(usual_mode(config.version, voice, transcript, ""), config.version)
    inputs = mode_inputs(mode, front, voice, text=text, transcript=transcript)
    return Prepared(inputs.segments, inputs.voice, speed, seed)


def read_text(request: Arrays, field: str) -> str:
    """The UTF-8 text of a BYTES input, "" where it was left out."""
    if field not in request or request[field].size == 0:
        return ""
    value = request[field].reshape(-1)[0]
    try:
        return value.decode("utf-8") if isinstance(value, bytes) else str(value)
    except UnicodeDecodeError as error:
        raise InvalidRequest(field, f"is not UTF-8 (byte {error.start}); send the text encoded as UTF-8") from None


def read_number(request: Arrays, field: str, default: float) -> float:
    """The number in a [1, 1] input, `default` where it was left out; not a number is an error."""
    if field not in request or request[field].size == 0:
        return default
    value = request[field].reshape(-1)[0].item()
    if not math.isfinite(value):
        raise InvalidRequest(field, f"is {value}, not a finite number")
    return value


def read_voice(call: Call, request: Arrays, config: CosyVoiceConfig, voices: Voices) -> Voice:
    """The registered speaker, or the voice of the reference audio; without either, the first registered speaker."""
    name = read_text(request, "speaker")
    wav = request.get("reference_wav", np.zeros((1, 0), np.float32)).reshape(-1)
    length = int(read_number(request, "reference_wav_len", wav.size))
    if length == 0:
        if read_text(request, "reference_text"):
            raise InvalidRequest("reference_text", "came without reference_wav; send both or neither")
        return stored(name, voices)
    if name:
        raise InvalidRequest("speaker", "came together with reference_wav; send one of the two")
    heard = check_reference(wav, length)
    return voices.recent.get(
        heard,
        REFERENCE_RATE,
        read_text(request, "reference_text"),
        lambda: reference_voice(call, heard, REFERENCE_RATE, config),
    )


def stored(name: str, voices: Voices) -> Voice:
    """The registered voice of that name, of "" the first there is."""
    if not name and not voices.names:
        raise InvalidRequest("speaker", "this checkpoint has no registered speakers; send reference_wav")
    return voices.get(name or voices.names[0])


def registered(name: str, front: TextFrontend, voices: Voices) -> Voice:
    """The voice of that name ("" for the first there is) with its prompt text in ids."""
    voice = stored(name, voices)
    if voice.prompt_text is None:
        return voice
    return replace(voice, prompt_ids=np.array(front.encode_prompt(voice.prompt_text), np.int64))
