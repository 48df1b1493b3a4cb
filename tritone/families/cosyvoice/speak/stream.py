"""Speech as it is synthesised: tokens from the language model to mel to waveform, chunk by chunk.

Each step is a stream with the state of one request, fed by the one before: `FlowStream` (or the version's own kind),
`SpeedStream`, `VocoderStream`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from tritone.calls import never
from tritone.errors import TritoneError
from tritone.families.cosyvoice.config.common import CosyVoiceConfig
from tritone.families.cosyvoice.flow.grid import chunk_tokens
from tritone.families.cosyvoice.flow.inputs import starting_noise
from tritone.families.cosyvoice.flow.prompt_states import PromptStates
from tritone.families.cosyvoice.flow.published_stream import PublishedStream
from tritone.families.cosyvoice.flow.speed import SpeedStream
from tritone.families.cosyvoice.flow.stream import FlowStream, MelStream
from tritone.families.cosyvoice.flow.v1.stream import HOP, InterpolatingStream
from tritone.families.cosyvoice.speak.limits import read_limits
from tritone.families.cosyvoice.speak.request import Prepared
from tritone.families.cosyvoice.speak.tokens import SpeechCount, segment_tokens, silent_segment, token_request
from tritone.families.cosyvoice.speak.whole import render
from tritone.families.cosyvoice.vocoder.stream import VocoderStream
from tritone.families.cosyvoice.voices.voice import Voice
from tritone.lm.protocols import SpeechLm
from tritone.stage import Call, Stage


@dataclass(frozen=True)
class Synthesizer:
    """The networks of one checkpoint, ready to stream speech; any number of streams may run at once.

    Args:
        call: runs the stages.
        stages: the declarations of the stages by name, from which the first states are made.
        config: sizes and settings.
        prompts: the states behind voices' prompts, kept from one stream to the next; None keeps none.
        hop: speech tokens per step of the flow; by default the smallest step.
    """

    call: Call
    stages: Mapping[str, Stage]
    config: CosyVoiceConfig
    prompts: PromptStates | None = None
    hop: int | None = None

    def speak(self, llm: SpeechLm, prepared: Prepared, cancelled: Callable[[], bool] = never) -> Iterator[np.ndarray]:
        """Yield waveform chunks `[samples]` of a whole request, segment after segment, until `cancelled()`."""
        request = token_request(prepared, self.config)
        if not request.segments:
            silence = TritoneError("source_wav gave no speech tokens; send a longer recording")
            yield from self.audible(request.source.tolist(), prepared, silence, cancelled)
            return
        spoken = SpeechCount(self.config)
        for index in range(len(request.segments)):
            speech = spoken.counted(segment_tokens(llm, request, index, self.config, cancelled))
            yield from self.audible(speech, prepared, silent_segment(index, len(request.segments)), cancelled)
            if cancelled():
                return

    def audible(
        self, speech: Iterable[int], prepared: Prepared, silence: TritoneError, cancelled: Callable[[], bool]
    ) -> Iterator[np.ndarray]:
        """Yield the waveform chunks of speech tokens until `cancelled()`; raise `silence` if there are none."""
        spoken = False
        for wave in self.waveform(speech, prepared.voice, prepared.seed, prepared.speed):
            if cancelled():
                return
            spoken = True
            yield wave
        if not spoken and not cancelled():
            raise silence

    def waveform(self, speech: Iterable[int], voice: Voice, seed: int, speed: float = 1.0) -> Iterator[np.ndarray]:
        """Yield waveform chunks `[samples]` of one segment while its speech tokens arrive."""
        flow, pace = self.mel_stream(voice, seed), SpeedStream(speed)
        vocoder = VocoderStream(self.call, self.config.hift, seed)
        for token in speech:
            for mel in flow.push([token]):
                yield from _nonempty(vocoder.push(pace.push(mel)))
        for mel in flow.finish():
            yield from _nonempty(vocoder.push(pace.push(mel)))
        rest = pace.push(np.zeros((1, self.config.flow.output_size, 0), np.float32), last=True)
        yield from _nonempty(vocoder.push(rest, last=True))

    def mel_stream(self, voice: Voice, seed: int) -> MelStream:
        """Return a new stream from speech tokens to mel, of the kind that the version and its settings ask for.

        With `published_stream` in the flow's settings v2 and v3 take the published steps, regardless of `hop`.
        """
        call, config, published = self.call, self.config, self.config.flow.published_stream
        if config.flow.estimator_chunk is None:
            return InterpolatingStream(call, config, voice, starting_noise(config, seed), self.hop or HOP, published)
        if published:
            config = replace(config, flow=replace(config.flow, stream_left_chunks=-1))
            flow = FlowStream(call, self.stages, config, voice, chunk_tokens(config), self.prompts)
            limits, prompt = read_limits(list(self.stages.values())), len(voice.speech_token)
            most = min(limits.tokens, limits.frames // config.flow.token_mel_ratio) - prompt
            return PublishedStream(flow, config, voice, lambda speech: render(call, config, [(speech, voice)])[0], most)
        hop = chunk_tokens(config) if self.hop is None else self.hop
        return FlowStream(call, self.stages, config, voice, hop, self.prompts)


def _nonempty(wave: np.ndarray) -> Iterator[np.ndarray]:
    if wave.size:
        yield wave
