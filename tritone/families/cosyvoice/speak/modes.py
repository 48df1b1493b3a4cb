"""The modes of synthesis, and the inputs of the networks that each of them fills.

A mode is a row of `MODES`; `mode_inputs` applies it. A version has some of them: instruct belongs to v1 (a fine-tuned
speaker reads in the manner described), instruct2 to v2 and v3 (a recorded voice does).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from tritone.errors import InvalidRequest
from tritone.families.cosyvoice.lm.special_tokens import END_OF_PROMPT
from tritone.families.cosyvoice.speak.text import TextFrontend
from tritone.families.cosyvoice.versions import Version
from tritone.families.cosyvoice.voices.voice import Voice


@dataclass(frozen=True)
class Mode:
    """One way to ask for speech: the fields it needs, and the parts of a voice it passes to the networks.

    Args:
        needs: required fields of a request; "voice" is a recording or a speaker stored with one.
        prompt: the text before the target text: the voice's "transcript", an "instruction", or nothing.
        llm_speech: the language model continues the voice's own speech.
        llm_embedding: the language model is conditioned on the speaker embedding (v1 only).
        flow_prompt: the flow continues the voice's own mel.
    """

    name: str
    needs: tuple[str, ...]
    prompt: str = ""
    llm_speech: bool = False
    llm_embedding: bool = True
    flow_prompt: bool = True


MODES: dict[str, Mode] = {
    mode.name: mode
    for mode in (
        Mode("sft", ("target_text", "speaker"), flow_prompt=False),
        Mode("zero_shot", ("target_text", "voice"), prompt="transcript", llm_speech=True),
        Mode("cross_lingual", ("target_text", "voice")),
        Mode(
            "instruct",
            ("target_text", "speaker", "instruct_text"),
            prompt="instruction",
            llm_embedding=False,
            flow_prompt=False,
        ),
        Mode("instruct2", ("target_text", "voice", "instruct_text"), prompt="instruction"),
        Mode("vc", ("source_wav", "voice")),
    )
}


@dataclass(frozen=True, eq=False)
class ModeInputs:
    """The inputs of the networks for one request.

    Args:
        segments: text ids of each segment; empty for voice conversion.
        voice: its prompts reduced to what the mode passes on; `prompt_ids` is the whole prompt in text ids, and
            `llm_embedding` is `[192]` or `[0]`.
        source: speech tokens spoken instead of the language model's, int64 `[speech_tokens]`.
    """

    segments: list[list[int]]
    voice: Voice
    source: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))


def find_mode(name: str, version: Version) -> Mode:
    """Return the mode of that name; InvalidRequest lists the modes of the version."""
    if name not in version.modes:
        model = f"CosyVoice {version.number}"
        problem = f"{model} has no mode" if name in MODES else "there is no mode"
        raise InvalidRequest("mode", f"{problem} {name[:40]!r}; {model} has {', '.join(version.modes)}")
    return MODES[name]


def usual_mode(version: Version, voice: Voice, transcript: str, instruct_text: str, converts: bool = False) -> str:
    """Return the mode that the inputs of a request imply when it names none."""
    if converts:
        return "vc"
    if instruct_text:
        return version.instruct_mode
    if transcript or voice.prompt_text is not None or len(voice.prompt_ids):
        return "zero_shot"
    return "cross_lingual" if len(voice.speech_token) else "sft"


def mode_inputs(
    mode: Mode,
    front: TextFrontend,
    voice: Voice,
    *,
    text: str | None = "",
    transcript: str = "",
    instruct_text: str = "",
    source: np.ndarray | None = None,
    normalize: bool = True,
) -> ModeInputs:
    """Return the networks' inputs of one request; InvalidRequest names a field that is missing or not of the mode.

    v3 gets the prompt it was trained with where the request has no `<|endofprompt|>`, and an instruction that lacks
    the marker gets one, in every version. A prompt at the head of the text is moved to where prompts stand, which is
    the same sequence of ids, so long text can still be divided.

    Args:
        voice: a registered voice, or `reference_voice` of a recording.
        text: the target text; None if it arrives later, in which case only the prompt is made.
        transcript: the words of the recording; "" uses the transcript stored with a registered voice.
        source: for voice conversion, the speech tokens of the source recording.
        normalize: put numbers and symbols in words and divide the text; text with `<|...|>` is left alone anyway.
    """
    check_voice(mode, voice)
    if mode.name == "vc":
        if source is None or not len(source):
            raise InvalidRequest("source_wav", "is missing; voice conversion needs the recording to convert")
        return ModeInputs([], passed_on(mode, voice, []), source.astype(np.int64))
    if mode.prompt == "instruction" and not instruct_text.strip():
        raise InvalidRequest(
            "instruct_text", f"is missing; mode {mode.name} needs a description of the manner of speaking"
        )
    if text is None:
        prompt = prompt_ids(mode, front, voice, transcript, instruct_text, "", normalize)
        return ModeInputs([], passed_on(mode, voice, prompt))
    head, rest = "", text
    if front.alternates and END_OF_PROMPT in text:
        before, marker, rest = text.rpartition(END_OF_PROMPT)
        head, normalize = before + marker, False
    prompt = prompt_ids(mode, front, voice, transcript, instruct_text, head, normalize)
    if not rest.strip() or not (segments := front.segments(rest, normalize)):
        raise InvalidRequest("target_text", f"has nothing to speak: {text[:40]!r}")
    return ModeInputs(segments, passed_on(mode, voice, prompt))


def check_voice(mode: Mode, voice: Voice) -> None:
    """Raise InvalidRequest unless the voice has what the mode passes on."""
    if "speaker" in mode.needs and not voice.trained:
        raise InvalidRequest(
            "speaker",
            f"{voice.name!r} was stored from a recording and has no embedding to be used without it; mode {mode.name} "
            f"needs a fine-tuned speaker, with this one use zero_shot or cross_lingual",
        )
    if "voice" in mode.needs and not len(voice.speech_token) and voice.prompt_text is None:
        raise InvalidRequest(
            "speaker",
            f"{voice.name!r} has an embedding but no recording; mode {mode.name} needs reference_wav or a speaker "
            f"stored with one, with this speaker use sft",
        )


def prompt_ids(
    mode: Mode, front: TextFrontend, voice: Voice, transcript: str, instruct_text: str, head: str, normalize: bool
) -> list[int]:
    """Return the text ids before the target text; `head` is a prompt that the text itself began with."""
    if mode.prompt == "instruction":
        ids = front.encode_prompt(instruction(instruct_text, front.version.system_prompt))
    elif mode.prompt == "transcript":
        ids = transcript_ids(front, voice, transcript, normalize)
    else:
        ids = []
    if front.system_prompt and front.tokenizer.token_to_id(END_OF_PROMPT) not in ids:
        return [*front.encode_prompt(head or front.system_prompt + END_OF_PROMPT), *ids]
    return [*ids, *front.encode_prompt(head)] if head else ids


def transcript_ids(front: TextFrontend, voice: Voice, transcript: str, normalize: bool) -> list[int]:
    """Return the text ids of the recording's transcript: as sent with the request, or as stored with the voice."""
    if transcript.strip():
        return front.encode_prompt(front.normalize(transcript.strip()) if normalize else transcript)
    if voice.prompt_text is not None:
        return front.encode_prompt(voice.prompt_text)
    if not len(voice.prompt_ids):
        problem = "is missing; zero_shot needs what reference_wav says, without that use cross_lingual"
        raise InvalidRequest("reference_text", problem)
    return [int(index) for index in voice.prompt_ids]


def instruction(text: str, system_prompt: str) -> str:
    """Return the instruction in the form used in training; one that already has the marker is unchanged."""
    text = text.strip()
    if END_OF_PROMPT in text or text.endswith("<endofprompt>"):  # v1's first release spelled it so
        return text
    if not text.startswith(system_prompt):
        text = f"{system_prompt} {text}"
    return text + END_OF_PROMPT


def passed_on(mode: Mode, voice: Voice, prompt: list[int]) -> Voice:
    """Return the voice with only those of its prompts that the mode gives to the networks."""
    embedding = voice.embedding if voice.llm_embedding is None else voice.llm_embedding
    return replace(
        voice,
        prompt_text=None,
        prompt_ids=np.array(prompt, np.int64),
        llm_speech_token=voice.llm_speech_token if mode.llm_speech else voice.llm_speech_token[:0],
        llm_embedding=embedding if mode.llm_embedding else embedding[:0],
        speech_token=voice.speech_token if mode.flow_prompt else voice.speech_token[:0],
        mel=voice.mel if mode.flow_prompt else voice.mel[:0],
    )
