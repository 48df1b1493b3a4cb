"""The five host steps of the whole-utterance ensemble: text encoder, LLM, flow encoder, flow decoder, vocoder.

Each takes a list of requests and calls the functions of `whole` on padded batches of their segments; a request that
is at fault is answered with its error, and the others continue. Between the steps a request travels as arrays, its
segments one after another with their lengths.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tritone.calls import Gone, each, never, stoppable
from tritone.errors import InvalidRequest
from tritone.families.cosyvoice.config.common import CosyVoiceConfig
from tritone.families.cosyvoice.flow.inputs import Sizes, frame_count, starting_noise
from tritone.families.cosyvoice.flow.speed import at_speed
from tritone.families.cosyvoice.speak.limits import (
    Limits,
    check_flow,
    check_vocoder,
    longest_speech,
    most_tokens,
    read_limits,
)
from tritone.families.cosyvoice.speak.request import REQUEST, SPEEDS, prepare
from tritone.families.cosyvoice.speak.segments import in_rounds, joined, parts
from tritone.families.cosyvoice.speak.text import TextFrontend
from tritone.families.cosyvoice.speak.tokens import TokenRequest, token_request, whole_tokens
from tritone.families.cosyvoice.speak.whole import Features, Tokens, decode, encode, prompt_mel, vocode
from tritone.families.cosyvoice.voices.speakers import Voices
from tritone.lm.protocols import SpeechLm
from tritone.request.batch import answer, row
from tritone.stage import Arrays, Axis, Call, Dim, Host, Scaled, Stage, Tensor

Left = Sequence[Gone]
ROW = 1
TEXT = Axis("text_tokens", 0, 60, 40000)
SEGMENTS = Axis("segments", 0, 1, 5000)
SPOKEN_SEGMENTS = Axis("spoken_segments", 1, 1, 1000)
MOST_TEXT_IDS, LARGEST_SEED = (1 << 22) - 1, (1 << 63) - 1
PROMPT_TEXT = Axis("prompt_text_tokens", 0, 2, 40000)


def hosts(stages: Sequence[Stage], config: CosyVoiceConfig, front: TextFrontend, voices: Voices) -> tuple[Host, ...]:
    """Return the host steps in order; each reads outputs of the earlier ones by name."""
    limits = read_limits(stages)
    tensors = host_tensors(limits, config)

    def text_encoder(call: Call, _llm: SpeechLm, requests: list[Arrays], left: Left = ()) -> list[Any]:
        pairs = zip(requests, each(left, len(requests)), strict=True)
        return [answer(encode_text, stoppable(call, gone), r, limits, config, front, voices) for r, gone in pairs]

    def llm(_call: Call, llm: SpeechLm, requests: list[Arrays], left: Left = ()) -> list[Any]:
        pairs = zip(requests, each(left, len(requests)), strict=True)
        return [answer(sample_tokens, llm, request, limits, config, cancelled) for request, cancelled in pairs]

    def flow_encoder(call: Call, _llm: SpeechLm, requests: list[Arrays], left: Left = ()) -> list[Any]:
        def check(request: Arrays) -> None:
            for segment in flow_rows(request):
                check_flow(limits, config, segment.sizes)

        return checked(requests, left, check, lambda valid, left: encode_speech(call, valid, config, left))

    def flow_decoder(call: Call, _llm: SpeechLm, requests: list[Arrays], left: Left = ()) -> list[Any]:
        def check(request: Arrays) -> None:
            for mu in parts(request, "mu", "mu_len"):
                check_spoken(limits, config, request, mu.shape[2])

        return checked(requests, left, check, lambda valid, left: decode_flow(call, valid, config, left))

    def vocoder(call: Call, _llm: SpeechLm, requests: list[Arrays], left: Left = ()) -> list[Any]:
        def check(request: Arrays) -> None:
            check_mel(limits, request)

        return checked(requests, left, check, lambda valid, left: vocode_mel(call, valid, config, left))

    # Only v1's language model takes the speaker, and its steps are stages; only v1's flow draws its noise from the
    # seed and needs the prompt's length in frames, which do not follow from its tokens.
    speaker = ("llm_embedding",) if config.lm.spk_embed_dim else ()
    lm_stages = tuple(stage.name for stage in stages if stage.name in ("llm_text_encoder", "llm_step"))
    prompt_frames, drawn = ((), ()) if config.flow.token_mel_ratio else (("prompt_feat",), ("seed_used",))
    spoken = ("text_token", "segment_len", "prompt_text_token", "llm_prompt_speech_token", "source_token", *speaker)
    voice = ("prompt_speech_token", "prompt_feat", "embedding")
    listeners = ("speech_tokenizer", "speaker_embedding")

    def pick(*names: str) -> tuple[Tensor, ...]:
        return tuple(tensors[name] for name in names)

    return (
        Host("text_encoder", REQUEST, pick(*spoken, *voice, "speed_used", "seed_used"), text_encoder, listeners),
        Host("llm", pick(*spoken, "seed_used"), pick("speech_token", "token_len"), llm, ("llm", *lm_stages)),
        Host(
            "flow_encoder",
            pick("speech_token", "token_len", "prompt_speech_token", *prompt_frames, "embedding"),
            pick("mu", "mu_len", "spks"),
            flow_encoder,
            ("flow_encoder",),
        ),
        Host(
            "flow_decoder",
            pick("mu", "mu_len", "spks", "prompt_feat", "speed_used", *drawn),
            pick("mel", "mel_len"),
            flow_decoder,
            ("flow_estimator",),
            long=True,
        ),
        Host(
            "vocoder",
            pick("mel", "mel_len", "seed_used"),
            pick("waveform"),
            vocoder,
            ("f0_predictor", "vocoder"),
            long=True,
        ),
    )


def host_tensors(limits: Limits, config: CosyVoiceConfig) -> dict[str, Tensor]:
    """Return the tensors between the host steps by name, and the waveform; the stages' limits bound their sizes."""
    mels, speaker, tokens = config.flow.output_size, config.flow.spk_embed_dim, limits.tokens
    codes = config.flow.vocab_size - 1
    speech = Axis("generated_tokens", 1, 100, longest_speech(config))
    # The slowest speed doubles the frames; each segment's features lie behind those of the prompt.
    spoken = Axis("spoken_frames", 1, 200, 2 * frame_count(config, Sizes(0, 0, speech.hi)))
    total = Axis("sequence_frames", 2, 200, SPOKEN_SEGMENTS.hi * limits.frames)

    def integers(name: str, size: Dim, largest: int) -> Tensor:
        return Tensor(name, "int64", (ROW, size), allowed=(0, largest))

    def lengths(name: str, total: Axis) -> Tensor:
        return Tensor(name, "int64", (ROW, SPOKEN_SEGMENTS), length_of=total)

    def floats(name: str, *sizes: Dim) -> Tensor:
        return Tensor(name, "float32", (ROW, *sizes))

    tensors = (
        integers("text_token", TEXT, MOST_TEXT_IDS),
        Tensor("segment_len", "int64", (ROW, SEGMENTS), length_of=TEXT),
        integers("prompt_text_token", PROMPT_TEXT, MOST_TEXT_IDS),
        integers("llm_prompt_speech_token", Axis("llm_prompt_tokens", 0, 0, tokens), codes),
        integers("source_token", Axis("source_tokens", 0, 0, tokens), codes),
        floats("llm_embedding", Axis("llm_speaker_size", 0, speaker, speaker)),
        integers("prompt_speech_token", Axis("prompt_tokens", 0, 0, tokens), codes),
        floats("prompt_feat", mels, Axis("prompt_frames", 0, 0, limits.frames)),
        floats("embedding", speaker),
        Tensor("speed_used", "float32", (ROW, 1), allowed=SPEEDS),
        integers("seed_used", 1, LARGEST_SEED),
        integers("speech_token", speech, codes),
        lengths("token_len", speech),
        floats("mu", mels, total),
        lengths("mu_len", total),
        floats("spks", mels),
        floats("mel", mels, spoken),
        lengths("mel_len", spoken),
        floats("waveform", Scaled(config.hift.hop, spoken)),
    )
    return {tensor.name: tensor for tensor in tensors}


def waveform_tensor(stages: Sequence[Stage], config: CosyVoiceConfig) -> Tensor:
    """Return the response of the ensemble."""
    return host_tensors(read_limits(stages), config)["waveform"]


def checked(
    requests: list[Arrays], left: Left, check: Callable[[Arrays], None], run: Callable[[list[Arrays], Left], list[Any]]
) -> list[Any]:
    """Return the results of the requests that pass `check`, run together, and the errors of the others, in order."""
    errors = [answer(check, request) for request in requests]
    valid = [index for index, error in enumerate(errors) if error is None]
    left = each(left, len(requests))
    results = iter(run([requests[index] for index in valid], [left[index] for index in valid]) if valid else [])
    return [next(results) if error is None else error for error in errors]


def encode_text(
    call: Call, request: Arrays, limits: Limits, config: CosyVoiceConfig, front: TextFrontend, voices: Voices
) -> Arrays:
    """Return text tokens, prompts, voice and controls of one request as arrays for the later steps."""
    prepared = prepare(call, request, config, front, voices)
    voice, tokens = prepared.voice, token_request(prepared, config)
    if len(tokens.source):
        sizes = Sizes(len(voice.speech_token), len(voice.mel), len(tokens.source))
        check_flow(limits, config, sizes, "source_wav")
    arrays = {
        "text_token": row([token for segment in tokens.segments for token in segment]),
        "segment_len": row([len(segment) for segment in tokens.segments]),
        "prompt_text_token": row(tokens.prompt_text),
        "llm_prompt_speech_token": row(tokens.prompt_speech),
        "source_token": row(tokens.source),
        "prompt_speech_token": row(voice.speech_token),
        "prompt_feat": prompt_mel(voice),
        "embedding": voice.embedding[None],
        "speed_used": np.array([[prepared.speed]], np.float32),
        "seed_used": row([prepared.seed]),
    }
    return arrays if tokens.conditioning is None else {**arrays, "llm_embedding": tokens.conditioning.reshape(1, -1)}


def sample_tokens(
    llm: SpeechLm, request: Arrays, limits: Limits, config: CosyVoiceConfig, cancelled: Gone = never
) -> Arrays:
    """Return the speech tokens of one request's segments in a row, and how many each segment has."""
    ends = np.cumsum(request["segment_len"][0])
    speaker = config.lm.spk_embed_dim
    tokens = TokenRequest(
        [part.tolist() for part in np.split(request["text_token"][0], ends)[:-1]],
        request["prompt_text_token"][0].tolist(),
        request["llm_prompt_speech_token"][0].tolist(),
        seed_of(request),
        request["source_token"][0],
        request["llm_embedding"].reshape(-1, speaker) if speaker else None,
    )
    segments = whole_tokens(llm, tokens, config, most_tokens(limits, config), cancelled)
    return {"speech_token": row(np.concatenate(segments)), "token_len": row([len(segment) for segment in segments])}


def encode_speech(call: Call, requests: list[Arrays], config: CosyVoiceConfig, left: Left = ()) -> list[Any]:
    """Return `mu` of each request's segments, each behind the prompt, and `spks`."""

    def join(segments: list[Features]) -> Arrays:
        return {**joined("mu", "mu_len", [features.mu for features in segments]), "spks": segments[0].spks}

    rows = [flow_rows(request) for request in requests]
    return list(in_rounds(rows, lambda rows: encode(call, config, rows), join, left))


def decode_flow(call: Call, requests: list[Arrays], config: CosyVoiceConfig, left: Left = ()) -> list[Any]:
    """Return the mel of each request's segments at its speed."""

    def solve(rows: list[tuple[Features, np.ndarray, np.ndarray, float]]) -> list[np.ndarray]:
        features, prompts, noise, speeds = zip(*rows, strict=True)
        mels = decode(call, config, features, prompts, noise)
        return [at_speed(mel, speed) for mel, speed in zip(mels, speeds, strict=True)]

    def segments(request: Arrays) -> list[tuple[Features, np.ndarray, np.ndarray, float]]:
        seed, speed = seed_of(request) if "seed_used" in request else 0, float(request["speed_used"][0, 0])
        return [
            (Features(mu, request["spks"]), request["prompt_feat"], starting_noise(config, seed)(mu.shape[2]), speed)
            for mu in parts(request, "mu", "mu_len")
        ]

    rows = [segments(request) for request in requests]
    return list(in_rounds(rows, solve, lambda mels: joined("mel", "mel_len", mels), left))


def vocode_mel(call: Call, requests: list[Arrays], config: CosyVoiceConfig, left: Left = ()) -> list[Any]:
    """Return the waveform of each request's segments, one after another."""

    def speak(rows: list[tuple[np.ndarray, int]]) -> list[np.ndarray]:
        return vocode(call, config.hift, [mel for mel, _ in rows], [seed for _, seed in rows])

    rows = [[(mel, seed_of(request)) for mel in parts(request, "mel", "mel_len")] for request in requests]
    return list(in_rounds(rows, speak, lambda waves: {"waveform": np.concatenate(waves)[None]}, left))


def check_spoken(limits: Limits, config: CosyVoiceConfig, request: Arrays, total: int) -> None:
    """Raise InvalidRequest for a segment of so many frames that is not longer than its prompt, or that is too long."""
    frames = total - request["prompt_feat"].shape[2]
    if frames < 1:
        raise InvalidRequest("prompt_feat", f"leaves {frames} of the {total} frames of mu to speak")
    if total > limits.frames:
        raise InvalidRequest("mu_len", f"has a segment of {total} frames; the limit is {limits.frames}")
    check_vocoder(limits, config, frames, float(request["speed_used"][0, 0]))


def check_mel(limits: Limits, request: Arrays) -> None:
    """Raise InvalidRequest for a segment of more frames than the vocoder takes."""
    longest = int(request["mel_len"].max())
    if longest > limits.mel:
        raise InvalidRequest("mel_len", f"has a segment of {longest} frames; the limit is {limits.mel}")


def flow_rows(request: Arrays) -> list[Tokens]:
    """Return the rows of the flow encoder's batches for one request, one for each of its segments."""
    frames = request["prompt_feat"].shape[2] if "prompt_feat" in request else 0
    prompt, embedding = request["prompt_speech_token"][0], request["embedding"][0]
    return [Tokens(part[0], prompt, embedding, frames) for part in parts(request, "speech_token", "token_len")]


def seed_of(request: Arrays) -> int:
    """Return the seed that a request carries from step to step."""
    return int(request["seed_used"][0, 0])
