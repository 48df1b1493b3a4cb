"""The order of calls that turns a request into sound: whole utterance, and streaming."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from tritone.errors import InvalidRequest, TritoneError
from tritone.families.cosyvoice.config.common import CosyVoiceConfig
from tritone.families.cosyvoice.flow import cfm
from tritone.families.cosyvoice.flow.grid import chunk_tokens, estimator_chunk
from tritone.families.cosyvoice.flow.inputs import Row, encoder_inputs, frame_count, starting_noise
from tritone.families.cosyvoice.flow.noise import Draw
from tritone.families.cosyvoice.flow.prompt_states import PromptStates
from tritone.families.cosyvoice.flow.published_stream import PublishedStream
from tritone.families.cosyvoice.flow.stream import FlowStream, SpeedStream, VocoderStream
from tritone.families.cosyvoice.flow.v1.stream import HOP, InterpolatingStream
from tritone.families.cosyvoice.lm.silence import without_long_silence
from tritone.families.cosyvoice.lm.vocabulary import vocabulary
from tritone.families.cosyvoice.speak.request import Prepared
from tritone.families.cosyvoice.vocoder.source import harmonics
from tritone.families.cosyvoice.voices.voice import Voice
from tritone.lm.protocols import SpeechLm
from tritone.stage import Call, Stage


def never() -> bool:
    """Return the cancellation check of a request nobody can cancel."""
    return False


def speech_tokens(
    llm: SpeechLm,
    text: list[int],
    prepared: Prepared,
    index: int,
    config: CosyVoiceConfig,
    cancelled: Callable[[], bool],
) -> Iterator[int]:
    """Speech tokens of one text segment as they are sampled; segment `index` has random draws of its own.

    The model continues from everything it sampled; of v3's long silences only the beginning is spoken.
    """
    voice = prepared.voice
    prompt = vocabulary(config.lm).prompt([*voice.prompt_ids.tolist(), *text], voice.llm_speech_token.tolist())
    seed = segment_seed(prepared, index)
    sampled = llm.generate(prompt, len(text), config.lm, seed, cancelled, conditioning(voice, config))
    yield from without_long_silence(sampled, config.version.silent_tokens)


def segment_seed(prepared: Prepared, index: int) -> int:
    """Return the seed of the draws of one segment's speech tokens."""
    return int(np.random.SeedSequence([prepared.seed, index]).generate_state(1)[0])


def conditioning(voice: Voice, config: CosyVoiceConfig) -> np.ndarray | None:
    """Return what the language model takes besides ids: v1's the speaker, `[1, 192]` or `[0, 192]`; others None."""
    if not config.lm.spk_embed_dim:
        return None
    embedding = voice.embedding if voice.llm_embedding is None else voice.llm_embedding
    return embedding.astype(np.float32).reshape(-1, config.lm.spk_embed_dim)


def flow_stream(
    call: Call,
    stages: dict[str, Stage],
    config: CosyVoiceConfig,
    voice: Voice,
    seed: int,
    hop: int | None = None,
    prompts: PromptStates | None = None,
) -> FlowStream | InterpolatingStream | PublishedStream:
    """Return the layout's way from tokens to mel in steps of `hop` tokens, by default as few as it may be.

    With `published_stream` in the flow's settings v2 and v3 take the published steps, whatever `hop` is.
    """
    published = config.flow.published_stream
    if config.flow.estimator_chunk is None:
        return InterpolatingStream(call, config, voice, starting_noise(config, seed), hop or HOP, published)
    if published:
        config = replace(config, flow=replace(config.flow, stream_left_chunks=-1))
        flow = FlowStream(call, stages, config, voice, chunk_tokens(config), prompts)
        return PublishedStream(flow, config, voice, lambda s: whole_mel(call, config, s, voice, streaming_mask=False))
    return FlowStream(call, stages, config, voice, chunk_tokens(config) if hop is None else hop, prompts)


def stream_waveform(
    call: Call,
    stages: dict[str, Stage],
    config: CosyVoiceConfig,
    speech: Iterable[int],
    voice: Voice,
    *,
    seed: int,
    speed: float = 1.0,
    hop: int | None = None,
    prompts: PromptStates | None = None,
) -> Iterator[np.ndarray]:
    """Yield waveform chunks `[samples]` of one segment while its speech tokens are still arriving.

    `prompts` keeps what is computed of the voice's prompt for its next stream on the same networks.
    """
    flow = flow_stream(call, stages, config, voice, seed, hop, prompts)
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
    call: Call,
    config: CosyVoiceConfig,
    speech: Sequence[int],
    voice: Voice,
    *,
    streaming_mask: bool,
    speed: float = 1.0,
    draw: Draw | None = None,
) -> np.ndarray:
    """Return mel `[1, 80, frames]` of a complete token sequence in one pass, under the streaming mask or full
    attention.

    `draw` gives the noise it starts from, by default that of seed 0.
    """
    flow, known = config.flow, len(voice.mel)
    sequence = [*voice.speech_token, *speech]
    row = Row(len(voice.speech_token), known, len(speech))
    encoded = call(
        "flow_encoder",
        speech_token=np.array([sequence], np.int64),
        speech_token_len=np.array([len(sequence)], np.int32),
        embedding=voice.embedding[None],
        **encoder_inputs(config, [row], streaming_mask),
    )
    frames = frame_count(config, row)
    cond = np.zeros((1, flow.output_size, frames), np.float32)
    cond[0, :, :known] = voice.mel.T
    mel = cfm.solve(
        call,
        encoded["mu"],
        encoded["spks"],
        cond,
        np.ones((1, 1, frames), np.float32),
        (draw or starting_noise(config, 0))(frames),
        chunk_size=estimator_chunk(config, streaming_mask),
        steps=flow.steps,
        cfg_rate=flow.cfg_rate,
    )
    return SpeedStream(speed).push(mel[:, :, known:], last=True)


def whole_waveform(call: Call, config: CosyVoiceConfig, mel: np.ndarray, seed: int) -> np.ndarray:
    """Return waveform `[samples]` of a complete mel `[1, 80, frames]` in one pass."""
    length = np.array([mel.shape[2]], np.int32)
    f0 = call("f0_predictor", mel=mel, mel_len=length)["f0"]
    return call("vocoder", mel=mel, mel_len=length, harmonics=harmonics(f0[0], config.hift, seed)[None])["waveform"][0]


def synthesize(
    call: Call,
    llm: SpeechLm,
    prepared: Prepared,
    stages: dict[str, Stage],
    config: CosyVoiceConfig,
    cancelled: Callable[[], bool] = never,
    hop: int | None = None,
) -> Iterator[np.ndarray]:
    """Yield waveform chunks `[samples]` of a whole request, segment after segment, ending early once `cancelled`.

    Of voice conversion, which brings its speech tokens, all is one segment.
    """
    segments: list[Iterable[int]] = [
        speech_tokens(llm, text, prepared, index, config, cancelled) for index, text in enumerate(prepared.segments)
    ]
    for index, speech in enumerate(segments or [prepared.source.tolist()]):
        yield from audible(call, stages, config, speech, prepared, silent(index, prepared), cancelled, hop)
        if cancelled():
            return


def audible(
    call: Call,
    stages: dict[str, Stage],
    config: CosyVoiceConfig,
    speech: Iterable[int],
    prepared: Prepared,
    silence: TritoneError,
    cancelled: Callable[[], bool],
    hop: int | None = None,
) -> Iterator[np.ndarray]:
    """Yield waveform chunks of one stretch of speech tokens, until `cancelled`; raises `silence` if there are none."""
    spoken = False
    for wave in stream_waveform(
        call,
        stages,
        config,
        speech,
        prepared.voice,
        seed=prepared.seed,
        speed=prepared.speed,
        hop=hop,
        prompts=prepared.prompts,
    ):
        if cancelled():
            return
        spoken = True
        yield wave
    if not spoken and not cancelled():
        raise silence


def whole_tokens(llm: SpeechLm, prepared: Prepared, config: CosyVoiceConfig, limit: int) -> list[int]:
    """Speech tokens of all segments joined, for the ensemble; InvalidRequest beyond `limit` tokens."""
    if not prepared.segments:
        return prepared.source.tolist()
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
    """Return the error of a segment for which the language model sampled no speech at all."""
    return TritoneError(f"segment {index + 1} of {len(prepared.segments)} produced no speech; try another seed")
