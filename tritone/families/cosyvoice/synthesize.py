"""The order of calls that turns a request into sound: whole utterance, and streaming."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from tritone.errors import InvalidRequest, TritoneError
from tritone.families.cosyvoice import cfm
from tritone.families.cosyvoice.config import CosyVoiceConfig
from tritone.families.cosyvoice.grid import encoder_chunk, estimator_chunk
from tritone.families.cosyvoice.request import Prepared
from tritone.families.cosyvoice.source import harmonics
from tritone.families.cosyvoice.speakers import Voice
from tritone.families.cosyvoice.streaming import FlowStream, SpeedStream, VocoderStream, noise_frames
from tritone.families.cosyvoice.vocabulary import vocabulary
from tritone.lm.sampling import seeded_draw, tokens
from tritone.stage import Call, Llm, Stage


def never() -> bool:
    """The cancellation check of a request nobody can cancel."""
    return False


def speech_tokens(
    llm: Llm, text: list[int], prepared: Prepared, index: int, config: CosyVoiceConfig, cancelled: Callable[[], bool]
) -> Iterator[int]:
    """Speech tokens of one text segment as they are sampled; segment `index` has random draws of its own.

    A session with `generate` samples by itself; any other gives logits, and the sampling is done here.
    """
    voice = prepared.voice
    prompt = vocabulary(config.lm).prompt([*voice.prompt_ids.tolist(), *text], voice.llm_speech_token.tolist())
    seed = int(np.random.SeedSequence([prepared.seed, index]).generate_state(1)[0])
    session = llm()
    try:
        if hasattr(session, "generate"):
            yield from session.generate(prompt, len(text), config.lm, seed, cancelled)
        else:
            yield from tokens(session, prompt, len(text), config.lm, seeded_draw(seed), cancelled)
    finally:
        session.close()


def stream_waveform(
    call: Call,
    stages: dict[str, Stage],
    config: CosyVoiceConfig,
    speech: Iterable[int],
    voice: Voice,
    *,
    seed: int,
    speed: float = 1.0,
    hop: int = 25,
) -> Iterator[np.ndarray]:
    """Waveform chunks `[samples]` of one segment while its speech tokens are still arriving."""
    flow = FlowStream(call, stages, config, voice, hop)
    pace = SpeedStream(speed)
    vocoder = VocoderStream(call, config.hift, seed)
    for token in speech:
        for mel in flow.push([token]):
            yield from _spoken(vocoder.push(pace.push(mel)))
    for mel in flow.finish():
        yield from _spoken(vocoder.push(pace.push(mel)))
    rest = pace.push(np.zeros((1, config.flow.output_size, 0), np.float32), last=True)
    yield from _spoken(vocoder.push(rest, last=True))


def _spoken(wave: np.ndarray) -> Iterator[np.ndarray]:
    if wave.size:
        yield wave


def whole_mel(
    call: Call, config: CosyVoiceConfig, speech: list[int], voice: Voice, *, streaming_mask: bool, speed: float = 1.0
) -> np.ndarray:
    """Mel `[1, 80, frames]` of a complete token sequence in one pass, under the streaming mask or full attention."""
    flow = config.flow
    sequence = [*voice.speech_token, *speech]
    encoded = call(
        "flow_encoder",
        speech_token=np.array([sequence], np.int64),
        speech_token_len=np.array([len(sequence)], np.int32),
        embedding=voice.embedding[None],
        **encoder_chunk(config, streaming_mask),
    )
    frames = len(sequence) * flow.token_mel_ratio
    cond = np.zeros((1, flow.output_size, frames), np.float32)
    known = len(voice.mel)
    cond[0, :, :known] = voice.mel.T
    mel = cfm.solve(
        call,
        encoded["mu"],
        encoded["spks"],
        cond,
        np.ones((1, 1, frames), np.float32),
        noise_frames(0, frames),
        chunk_size=estimator_chunk(config, streaming_mask),
        steps=flow.steps,
        cfg_rate=flow.cfg_rate,
    )
    return SpeedStream(speed).push(mel[:, :, known:], last=True)


def whole_waveform(call: Call, config: CosyVoiceConfig, mel: np.ndarray, seed: int) -> np.ndarray:
    """Waveform `[samples]` of a complete mel `[1, 80, frames]` in one pass."""
    length = np.array([mel.shape[2]], np.int32)
    f0 = call("f0_predictor", mel=mel, mel_len=length)["f0"]
    return call("vocoder", mel=mel, mel_len=length, harmonics=harmonics(f0[0], config.hift, seed)[None])["waveform"][0]


def synthesize(
    call: Call,
    llm: Llm,
    prepared: Prepared,
    stages: dict[str, Stage],
    config: CosyVoiceConfig,
    cancelled: Callable[[], bool] = never,
    hop: int = 25,
) -> Iterator[np.ndarray]:
    """Waveform chunks `[samples]` of a whole request, segment after segment, ending early once `cancelled`."""
    for index, text in enumerate(prepared.segments):
        speech = speech_tokens(llm, text, prepared, index, config, cancelled)
        spoken = False
        for wave in stream_waveform(
            call, stages, config, speech, prepared.voice, seed=prepared.seed, speed=prepared.speed, hop=hop
        ):
            if cancelled():
                return
            spoken = True
            yield wave
        if not spoken and not cancelled():
            raise silent(index, prepared)


def whole_tokens(llm: Llm, prepared: Prepared, config: CosyVoiceConfig, limit: int) -> list[int]:
    """Speech tokens of all segments joined, for the ensemble; InvalidRequest beyond `limit` tokens."""
    speech: list[int] = []
    for index, text in enumerate(prepared.segments):
        before = len(speech)
        for token in speech_tokens(llm, text, prepared, index, config, never):
            speech.append(token)
            if len(speech) > limit:
                seconds = limit / config.flow.token_frame_rate
                raise InvalidRequest(
                    "target_text", f"speaks longer than {seconds:.0f} s in one response; use the streaming model"
                )
        if len(speech) == before:
            raise silent(index, prepared)
    return speech


def silent(index: int, prepared: Prepared) -> TritoneError:
    """The error of a segment for which the language model sampled no speech at all."""
    return TritoneError(f"segment {index + 1} of {len(prepared.segments)} produced no speech; try another seed")
