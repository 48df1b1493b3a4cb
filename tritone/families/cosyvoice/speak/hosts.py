"""The five steps of the whole-utterance ensemble: text encoder, LLM, flow encoder, flow decoder, vocoder.

Each takes a list of requests and runs one padded batch where the networks allow it; a row of a batch equals what its
request gives alone. A request that is at fault is answered with its error, the others go on.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tritone.families.cosyvoice.config.common import CosyVoiceConfig
from tritone.families.cosyvoice.flow import cfm
from tritone.families.cosyvoice.flow.grid import estimator_chunk
from tritone.families.cosyvoice.flow.inputs import Row, encoder_inputs, frame_count, starting_noise
from tritone.families.cosyvoice.flow.stream import SpeedStream
from tritone.families.cosyvoice.speak.request import REQUEST, Prepared, prepare
from tritone.families.cosyvoice.speak.synthesize import conditioning, whole_tokens
from tritone.families.cosyvoice.speak.text import TextFrontend
from tritone.families.cosyvoice.vocoder.source import harmonics
from tritone.families.cosyvoice.voices.speakers import Voices
from tritone.families.cosyvoice.voices.voice import Voice
from tritone.lm.protocols import SpeechLm
from tritone.request.batch import answer, pad, row, stack
from tritone.stage import Arrays, Axis, Call, Host, Scaled, Tensor

ROW = 1
TEXT = Axis("text_tokens", 0, 60, 4000)
SEGMENTS = Axis("segments", 0, 1, 200)
PROMPT_TEXT = Axis("prompt_text_tokens", 0, 2, 400)
PROMPT = Axis("prompt_tokens", 0, 0, 1500)
PROMPT_FRAMES = Axis("prompt_frames", 0, 0, 3000)
SPEECH = Axis("generated_tokens", 1, 100, 1500)
"""A minute of 25 tokens a second, half a minute of v1's 50: with a prompt, what the flow's stages take."""
TOTAL = Axis("sequence_frames", 2, 200, 4500)
MEL = Axis("spoken_frames", 1, 200, 6000)

TEXT_TOKEN = Tensor("text_token", "int64", (ROW, TEXT))
SEGMENT_LEN = Tensor("segment_len", "int64", (ROW, SEGMENTS))
PROMPT_TEXT_TOKEN = Tensor("prompt_text_token", "int64", (ROW, PROMPT_TEXT))
PROMPT_SPEECH_TOKEN = Tensor("prompt_speech_token", "int64", (ROW, PROMPT))
LLM_PROMPT = Tensor("llm_prompt_speech_token", "int64", (ROW, Axis("llm_prompt_tokens", 0, 0, 1500)))
LLM_EMBEDDING = Tensor("llm_embedding", "float32", (ROW, Axis("heard", 0, 192, 192)))
"""What v1's language model hears of the voice: an embedding or nothing."""
SOURCE_TOKEN = Tensor("source_token", "int64", (ROW, Axis("source_tokens", 0, 0, 1500)))
"""Voice conversion's speech, which the language model leaves as it is."""
PROMPT_FEAT = Tensor("prompt_feat", "float32", (ROW, 80, PROMPT_FRAMES))
EMBEDDING = Tensor("embedding", "float32", (ROW, 192))
SPEED_USED = Tensor("speed_used", "float32", (ROW, 1))
SEED_USED = Tensor("seed_used", "int64", (ROW, 1))
SPEECH_TOKEN = Tensor("speech_token", "int64", (ROW, SPEECH))
MU = Tensor("mu", "float32", (ROW, 80, TOTAL))
SPKS = Tensor("spks", "float32", (ROW, 80))
SPOKEN = Tensor("mel", "float32", (ROW, 80, MEL))


def hosts(config: CosyVoiceConfig, front: TextFrontend, voices: Voices) -> tuple[Host, ...]:
    """Return the ensemble's steps in order; each reads outputs of the earlier ones by name."""
    samples = Scaled(config.hift.hop, MEL)
    waveform = Tensor("waveform", "float32", (ROW, samples))

    def text_encoder(call: Call, _llm: SpeechLm, requests: list[Arrays]) -> list[Any]:
        return [answer(encode_text, call, request, config, front, voices) for request in requests]

    def llm(_call: Call, llm: SpeechLm, requests: list[Arrays]) -> list[Any]:
        return [answer(decode_tokens, llm, request, config) for request in requests]

    def flow_encoder(call: Call, _llm: SpeechLm, requests: list[Arrays]) -> list[Any]:
        return encode_speech(call, requests, config)

    def flow_decoder(call: Call, _llm: SpeechLm, requests: list[Arrays]) -> list[Any]:
        return decode_flow(call, requests, config)

    def vocoder(call: Call, _llm: SpeechLm, requests: list[Arrays]) -> list[Any]:
        return vocode(call, requests, config)

    prompt: tuple[Tensor, ...] = (PROMPT_TEXT_TOKEN, LLM_PROMPT, SOURCE_TOKEN)
    lm_stages: tuple[str, ...] = ()
    stretched: tuple[Tensor, ...] = ()
    drawn: tuple[Tensor, ...] = ()
    if config.lm.spk_embed_dim:
        prompt, lm_stages = (*prompt, LLM_EMBEDDING), ("llm_text_encoder", "llm_step")
    if not config.flow.token_mel_ratio:
        stretched, drawn = (PROMPT_FEAT,), (SEED_USED,)
    return (
        Host(
            "text_encoder",
            REQUEST,
            (TEXT_TOKEN, SEGMENT_LEN, *prompt, PROMPT_SPEECH_TOKEN, PROMPT_FEAT, EMBEDDING, SPEED_USED, SEED_USED),
            text_encoder,
            ("speech_tokenizer", "speaker_embedding"),
        ),
        Host("llm", (TEXT_TOKEN, SEGMENT_LEN, *prompt, SEED_USED), (SPEECH_TOKEN,), llm, ("llm", *lm_stages)),
        Host(
            "flow_encoder",
            (SPEECH_TOKEN, PROMPT_SPEECH_TOKEN, *stretched, EMBEDDING),
            (MU, SPKS),
            flow_encoder,
            ("flow_encoder",),
        ),
        Host("flow_decoder", (MU, SPKS, PROMPT_FEAT, SPEED_USED, *drawn), (SPOKEN,), flow_decoder, ("flow_estimator",)),
        Host("vocoder", (SPOKEN, SEED_USED), (waveform,), vocoder, ("f0_predictor", "vocoder")),
    )


def encode_text(call: Call, request: Arrays, config: CosyVoiceConfig, front: TextFrontend, voices: Voices) -> Arrays:
    """Return text tokens, prompts, voice and controls of one request as arrays for the later steps."""
    prepared = prepare(call, request, config, front, voices)
    voice = prepared.voice
    arrays = {
        "text_token": row([token for segment in prepared.segments for token in segment]),
        "segment_len": row([len(segment) for segment in prepared.segments]),
        "prompt_text_token": row(voice.prompt_ids),
        "prompt_speech_token": row(voice.speech_token),
        "llm_prompt_speech_token": row(voice.llm_speech_token),
        "source_token": row(prepared.source),
        "prompt_feat": np.ascontiguousarray(voice.mel.T)[None],
        "embedding": voice.embedding[None],
        "speed_used": np.array([[prepared.speed]], np.float32),
        "seed_used": np.array([[prepared.seed]], np.int64),
    }
    embedding = conditioning(voice, config)
    return arrays if embedding is None else {**arrays, "llm_embedding": embedding.reshape(1, -1)}


def decode_tokens(llm: SpeechLm, request: Arrays, config: CosyVoiceConfig) -> Arrays:
    """Speech tokens of one request's segments, joined."""
    nobody = np.zeros(config.flow.spk_embed_dim, np.float32)
    voice = Voice(
        "request",
        nobody,
        prompt_ids=request["prompt_text_token"][0],
        llm_speech_token=request["llm_prompt_speech_token"][0],
        llm_embedding=request["llm_embedding"][0] if "llm_embedding" in request else None,
    )
    ends = np.cumsum(request["segment_len"][0])
    segments = [part.tolist() for part in np.split(request["text_token"][0], ends)[:-1]]
    prepared = Prepared(segments, voice, 1.0, int(request["seed_used"][0, 0]), request["source_token"][0])
    return {"speech_token": row(whole_tokens(llm, prepared, config, SPEECH.hi))}


def encode_speech(call: Call, requests: list[Arrays], config: CosyVoiceConfig) -> list[Any]:
    """`mu` and `spks` of each request's prompt and generated tokens, in one padded batch."""
    tokens = [np.concatenate([r["prompt_speech_token"], r["speech_token"]], axis=1) for r in requests]
    # Only v1, whose frames are no multiple of its tokens, has to know how many frames a prompt has.
    known = [r["prompt_feat"].shape[2] if "prompt_feat" in r else 0 for r in requests]
    rows = [
        Row(r["prompt_speech_token"].shape[1], frames, r["speech_token"].shape[1])
        for r, frames in zip(requests, known, strict=True)
    ]
    encoded = call(
        "flow_encoder",
        speech_token=stack(tokens),
        speech_token_len=np.array([t.shape[1] for t in tokens], np.int32),
        embedding=np.concatenate([r["embedding"] for r in requests]),
        **encoder_inputs(config, rows),
    )
    return [
        {"mu": encoded["mu"][i : i + 1, :, : frame_count(config, found)], "spks": encoded["spks"][i : i + 1]}
        for i, found in enumerate(rows)
    ]


def decode_flow(call: Call, requests: list[Arrays], config: CosyVoiceConfig) -> list[Any]:
    """Return mel of each request without its prompt, at its speed; the ten solver steps run as one padded batch."""
    frames = [r["mu"].shape[2] for r in requests]
    longest = max(frames)
    known = [r["prompt_feat"].shape[2] for r in requests]
    seeds = [int(r["seed_used"][0, 0]) if "seed_used" in r else 0 for r in requests]
    mel = cfm.solve(
        call,
        stack([r["mu"] for r in requests]),
        np.concatenate([r["spks"] for r in requests]),
        pad(stack([r["prompt_feat"] for r in requests]), longest),
        (np.arange(longest) < np.array(frames)[:, None]).astype(np.float32)[:, None],
        stack([starting_noise(config, seed)(count) for seed, count in zip(seeds, frames, strict=True)]),
        chunk_size=estimator_chunk(config, streaming=False),
        steps=config.flow.steps,
        cfg_rate=config.flow.cfg_rate,
    )
    return [
        {"mel": SpeedStream(float(r["speed_used"][0, 0])).push(mel[i : i + 1, :, known[i] : frames[i]], last=True)}
        for i, r in enumerate(requests)
    ]


def vocode(call: Call, requests: list[Arrays], config: CosyVoiceConfig) -> list[Any]:
    """Return waveform of each request's mel, in one padded batch."""
    frames = np.array([r["mel"].shape[2] for r in requests], np.int32)
    mel = stack([r["mel"] for r in requests])
    f0 = call("f0_predictor", mel=mel, mel_len=frames)["f0"]
    sources = [
        harmonics(f0[i, : frames[i]], config.hift, int(request["seed_used"][0, 0]))[None]
        for i, request in enumerate(requests)
    ]
    waves = call("vocoder", mel=mel, mel_len=frames, harmonics=stack(sources))["waveform"]
    return [{"waveform": waves[i : i + 1, : n * config.hift.hop]} for i, n in enumerate(frames)]
