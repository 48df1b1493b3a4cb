"""The five host steps of the whole-utterance ensemble: text encoder, LLM, flow encoder, flow decoder, vocoder.

Each takes a list of requests and calls the functions of `whole` on one padded batch of them; a request that is
at fault is answered with its error, and the others continue. Between the steps a request travels as arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tritone.errors import InvalidRequest
from tritone.families.cosyvoice.config.common import CosyVoiceConfig
from tritone.families.cosyvoice.flow.inputs import Sizes, starting_noise
from tritone.families.cosyvoice.flow.speed import at_speed
from tritone.families.cosyvoice.speak.limits import Limits, check_flow, check_vocoder, most_tokens, read_limits
from tritone.families.cosyvoice.speak.request import REQUEST, SPEEDS, prepare
from tritone.families.cosyvoice.speak.text import TextFrontend
from tritone.families.cosyvoice.speak.tokens import TokenRequest, token_request, whole_tokens
from tritone.families.cosyvoice.speak.whole import Features, Tokens, decode, encode, prompt_mel, vocode
from tritone.families.cosyvoice.voices.speakers import Voices
from tritone.lm.protocols import SpeechLm
from tritone.request.batch import answer, row
from tritone.stage import Arrays, Axis, Call, Dim, Host, Scaled, Stage, Tensor

ROW = 1
TEXT = Axis("text_tokens", 0, 60, 40000)
SEGMENTS = Axis("segments", 0, 1, 5000)
MOST_TEXT_IDS, LARGEST_SEED = (1 << 22) - 1, (1 << 63) - 1
PROMPT_TEXT = Axis("prompt_text_tokens", 0, 2, 40000)


def hosts(stages: Sequence[Stage], config: CosyVoiceConfig, front: TextFrontend, voices: Voices) -> tuple[Host, ...]:
    """Return the host steps in order; each reads outputs of the earlier ones by name."""
    limits = read_limits(stages)
    tensors = host_tensors(limits, config)

    def text_encoder(call: Call, _llm: SpeechLm, requests: list[Arrays]) -> list[Any]:
        return [answer(encode_text, call, request, limits, config, front, voices) for request in requests]

    def llm(_call: Call, llm: SpeechLm, requests: list[Arrays]) -> list[Any]:
        return [answer(sample_tokens, llm, request, limits, config) for request in requests]

    def flow_encoder(call: Call, _llm: SpeechLm, requests: list[Arrays]) -> list[Any]:
        return checked(
            requests,
            lambda request: check_flow(limits, config, flow_row(request).sizes),
            lambda valid: encode_speech(call, valid, config),
        )

    def flow_decoder(call: Call, _llm: SpeechLm, requests: list[Arrays]) -> list[Any]:
        return checked(
            requests,
            lambda request: check_spoken(limits, config, request),
            lambda valid: decode_flow(call, valid, config),
        )

    def vocoder(call: Call, _llm: SpeechLm, requests: list[Arrays]) -> list[Any]:
        mels, seeds = [r["mel"] for r in requests], [seed_of(r) for r in requests]
        return [{"waveform": wave[None]} for wave in vocode(call, config.hift, mels, seeds)]

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
        Host("llm", pick(*spoken, "seed_used"), pick("speech_token"), llm, ("llm", *lm_stages)),
        Host(
            "flow_encoder",
            pick("speech_token", "prompt_speech_token", *prompt_frames, "embedding"),
            pick("mu", "spks"),
            flow_encoder,
            ("flow_encoder",),
        ),
        Host(
            "flow_decoder",
            pick("mu", "spks", "prompt_feat", "speed_used", *drawn),
            pick("mel"),
            flow_decoder,
            ("flow_estimator",),
        ),
        Host("vocoder", pick("mel", "seed_used"), pick("waveform"), vocoder, ("f0_predictor", "vocoder")),
    )


def host_tensors(limits: Limits, config: CosyVoiceConfig) -> dict[str, Tensor]:
    """Return the tensors between the host steps by name, and the waveform; the stages' limits bound their sizes."""
    mels, speaker, tokens = config.flow.output_size, config.flow.spk_embed_dim, limits.tokens
    codes = config.flow.vocab_size - 1
    spoken = Axis("spoken_frames", 1, 200, limits.mel)
    total = Axis("sequence_frames", 2, 200, limits.frames)

    def integers(name: str, size: Dim, largest: int) -> Tensor:
        return Tensor(name, "int64", (ROW, size), allowed=(0, largest))

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
        integers("speech_token", Axis("generated_tokens", 1, 100, most_tokens(limits, config)), codes),
        floats("mu", mels, total),
        floats("spks", mels),
        floats("mel", mels, spoken),
        floats("waveform", Scaled(config.hift.hop, spoken)),
    )
    return {tensor.name: tensor for tensor in tensors}


def waveform_tensor(stages: Sequence[Stage], config: CosyVoiceConfig) -> Tensor:
    """Return the response of the ensemble."""
    return host_tensors(read_limits(stages), config)["waveform"]


def checked(
    requests: list[Arrays], check: Callable[[Arrays], None], run: Callable[[list[Arrays]], list[Any]]
) -> list[Any]:
    """Return the results of the requests that pass `check`, run together, and the errors of the others, in order."""
    errors = [answer(check, request) for request in requests]
    valid = [request for request, error in zip(requests, errors, strict=True) if error is None]
    results = iter(run(valid) if valid else [])
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


def sample_tokens(llm: SpeechLm, request: Arrays, limits: Limits, config: CosyVoiceConfig) -> Arrays:
    """Return the speech tokens of one request's segments in a row."""
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
    return {"speech_token": row(whole_tokens(llm, tokens, config, most_tokens(limits, config)))}


def encode_speech(call: Call, requests: list[Arrays], config: CosyVoiceConfig) -> list[Arrays]:
    """Return `mu` and `spks` of each request's prompt and speech."""
    return [features._asdict() for features in encode(call, config, [flow_row(request) for request in requests])]


def decode_flow(call: Call, requests: list[Arrays], config: CosyVoiceConfig) -> list[Arrays]:
    """Return the mel of each request's speech at its speed."""
    seeds = [seed_of(r) if "seed_used" in r else 0 for r in requests]
    noise = [starting_noise(config, seed)(r["mu"].shape[2]) for seed, r in zip(seeds, requests, strict=True)]
    rows = [Features(r["mu"], r["spks"]) for r in requests]
    mels = decode(call, config, rows, [r["prompt_feat"] for r in requests], noise)
    return [
        {"mel": at_speed(mel, float(request["speed_used"][0, 0]))} for mel, request in zip(mels, requests, strict=True)
    ]


def check_spoken(limits: Limits, config: CosyVoiceConfig, request: Arrays) -> None:
    """Raise InvalidRequest for speech that is not longer than its prompt, or too long for the vocoder at its speed."""
    frames = spoken_frames(request)
    if frames < 1:
        raise InvalidRequest("prompt_feat", f"leaves {frames} of the {request['mu'].shape[2]} frames of mu to speak")
    check_vocoder(limits, config, frames, float(request["speed_used"][0, 0]))


def flow_row(request: Arrays) -> Tokens:
    """Return the row of the flow encoder's batch for one request."""
    frames = request["prompt_feat"].shape[2] if "prompt_feat" in request else 0
    return Tokens(request["speech_token"][0], request["prompt_speech_token"][0], request["embedding"][0], frames)


def spoken_frames(request: Arrays) -> int:
    """Return the mel frames of a request's speech before it is resampled to its speed."""
    return int(request["mu"].shape[2] - request["prompt_feat"].shape[2])


def seed_of(request: Arrays) -> int:
    """Return the seed that a request carries from step to step."""
    return int(request["seed_used"][0, 0])
