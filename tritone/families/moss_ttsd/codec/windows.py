"""Windows: recordings and codes of any length through networks that take at most 30 seconds, and how they are joined.

The networks attend to all of a window, so their output near its ends depends on where it ends. A schedule gives each
kept chunk context on both sides; chunks overlap by a short linear cross-fade, which keeps the level because both sides
are the same signal. Codes that arrive one by one go through the same schedule as complete codes, so a stream gives the
same sound as the whole utterance.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from tritone.audio.whisper import whisper_mel
from tritone.errors import ConfigError
from tritone.families.moss_ttsd.codec.config import INPUT_RATE, MEL_CHANNELS, MEL_HOP, WINDOW_SECONDS, CodecConfig
from tritone.stage import Call

ENCODER_STRIDE_SECONDS = 20
"""The distance between the starts of two windows; of the 30 s of a window the first 20 are kept."""
CROSSFADE_SECONDS = 0.1


@dataclass(frozen=True)
class Schedule:
    """The codes that are decoded together.

    Args:
        first: the number of codes kept of the first window.
        hop: the number of codes kept of each later window.
        left, right: codes of context before and after the kept ones.
        crossfade: whether chunks are blended over 0.1 s, or just joined.
    """

    first: int
    hop: int
    left: int
    right: int
    crossfade: bool = True

    def check(self, config: CodecConfig, prefix: int = 0) -> None:
        """Raise ConfigError when a window would not fit the networks or leaves no samples to blend."""
        longest = prefix + max(self.first, self.left + self.hop) + self.right
        if min(self.first, self.hop) < 1 or min(self.left, self.right) < 0 or longest > config.window_codes:
            raise ConfigError(
                f"schedule {self} needs windows of {longest} codes; the limit is {config.window_codes} codes "
                f"({WINDOW_SECONDS} s), with first and hop >= 1 and left and right >= 0"
            )
        if self.crossfade and self.right * config.upsample < CROSSFADE_SECONDS * config.sample_rate:
            raise ConfigError(f"schedule {self} has too little context on the right for a cross-fade of 0.1 s")


PUBLISHED = Schedule(first=250, hop=250, left=0, right=125, crossfade=False)
"""Windows of 30 s every 20 s, joined without blending."""
WITH_REFERENCE = Schedule(first=105, hop=85, left=20, right=20)
"""Windows of 10 s, each decoded after 20 s of the reference recording."""
STREAMING = Schedule(first=11, hop=25, left=75, right=6)
"""The first sound comes after 18 codes and the delay of 7 rows (25 rows, 2 s); then 2 s are decoded at a time."""
REFERENCE_CODES = 250


def encode(call: Call, config: CodecConfig, wav: np.ndarray) -> np.ndarray:
    """Return the codes `[channels, samples // 1280]` int64 of a 16 kHz recording `[samples]` float32.

    A window is padded with no more silence than its convolutions reach. This changes no code, because attention is
    masked after the end of the recording.
    """
    stride, window = ENCODER_STRIDE_SECONDS * INPUT_RATE, WINDOW_SECONDS * INPUT_RATE
    codes = len(wav) // config.code_samples
    kept = stride // config.code_samples
    chunks = []
    for start in range(0, codes * config.code_samples, stride):
        part = wav[start : start + window]
        mel, mel_len = window_mel(part, 2 * config.pool)
        own = call("codec_encoder", mel=mel[None], mel_len=np.array([mel_len], np.int32))["codes"][0]
        chunks.append(own[:, : min(kept, len(part) // config.code_samples)])
    joined = np.concatenate(chunks, axis=1) if chunks else np.zeros((config.channels, 0), np.int64)
    return joined[:, :codes]


def window_mel(wav: np.ndarray, multiple: int) -> tuple[np.ndarray, int]:
    """Return features `[80, frames]` of at most 30 s of sound, and the number of frames that hold sound.

    `frames` is a multiple of `multiple`. At least one frame of silence follows the sound, unless the window is full.
    """
    longest = WINDOW_SECONDS * INPUT_RATE
    sounding = -(-len(wav) // MEL_HOP)
    frames = min(-(-(sounding + 1) // multiple) * multiple, longest // MEL_HOP)
    silent = min(frames * MEL_HOP + 400, longest) - len(wav)
    mel = whisper_mel(np.pad(wav, (0, max(silent, 0))), MEL_CHANNELS)
    return mel[:, :frames], sounding


class WindowedDecoder:
    """Decodes codes as they arrive; `push` and `finish` return the samples that are final, `[samples]` float32."""

    def __init__(
        self, call: Call, config: CodecConfig, schedule: Schedule, reference: np.ndarray | None = None
    ) -> None:
        """Begin with no codes; `reference` `[channels, at most 250]` are codes decoded as context of each window."""
        self._call, self._config, self._schedule = call, config, schedule
        self._reference = np.zeros((config.channels, 0), np.int64) if reference is None else reference
        schedule.check(config, self._reference.shape[1])
        self._fade = round(CROSSFADE_SECONDS * config.sample_rate) if schedule.crossfade else 0
        self._codes = np.zeros((config.channels, 0), np.int64)
        self._dropped = 0
        self._kept = 0
        self._tail = np.zeros(0, np.float32)

    def push(self, codes: np.ndarray) -> np.ndarray:
        """Append codes `[channels, n]` and return the samples that they make final."""
        self._codes = np.concatenate([self._codes, codes], axis=1)
        chunks = []
        # One code more than the window needs shows that the window is not the last.
        while self._end() > self._next() + self._schedule.right:
            chunks.append(self._chunk(self._next(), self._next() + self._schedule.right, last=False))
        return _joined(chunks)

    def finish(self) -> np.ndarray:
        """Return the remaining samples after the last code."""
        if self._kept == self._end():
            return _joined([])
        return self._chunk(self._end(), self._end(), last=True)

    def _end(self) -> int:
        return self._dropped + self._codes.shape[1]

    def _next(self) -> int:
        """Return the code at which the next chunk ends, if further codes follow."""
        return self._kept + (self._schedule.hop if self._kept else self._schedule.first)

    def _chunk(self, stop: int, end: int, last: bool) -> np.ndarray:
        """Return the samples of the codes up to `stop`, decoded with those up to `end` and blended with the tail."""
        begin = max(0, self._kept - self._schedule.left)
        window = self._codes[:, begin - self._dropped : end - self._dropped]
        upsample, fade = self._config.upsample, 0 if last else self._fade
        from_sample, to_sample = (self._kept - begin) * upsample, (stop - begin) * upsample + fade
        samples = decode_part(self._call, self._config, self._reference, window, from_sample, to_sample)
        if len(self._tail):
            samples = blended(self._tail, samples)
        settled = len(samples) - fade
        self._tail = samples[settled:]
        self._kept = stop
        keep_from = max(self._dropped, stop - self._schedule.left)
        self._codes, self._dropped = self._codes[:, keep_from - self._dropped :], keep_from
        return samples[:settled]


def blended(fading: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Return `samples` with a linear cross-fade from `fading`, the end of the chunk before, at their start."""
    rising = np.linspace(0, 1, len(fading), dtype=np.float32)
    overlap = min(len(fading), len(samples))
    mixed = samples[:overlap] * rising[:overlap] + fading[:overlap] * (1 - rising[:overlap])
    return np.concatenate([mixed, samples[overlap:]])


def decode_part(
    call: Call, config: CodecConfig, reference: np.ndarray, window: np.ndarray, from_sample: int, to_sample: int
) -> np.ndarray:
    """Return samples `from_sample` to `to_sample` of `window`, decoded after `reference`; both `[channels, codes]`.

    The vocoder receives only the frames in its receptive field of those samples; the result is the same as with all.
    """
    codes = np.concatenate([reference, window], axis=1)
    frames = call("codec_decoder", codes=codes[None], codes_len=np.array([codes.shape[1]], np.int32))["frames"]
    hop, before = config.vocos.hop, reference.shape[1] * 2 * config.pool
    reach = vocoder_reach(config)
    begin = max(0, before + from_sample // hop - reach)
    end = min(frames.shape[2], before - (-to_sample // hop) + reach)
    end = min(frames.shape[2], max(end, begin + 8))
    begin = max(0, min(begin, end - 8))
    part = np.ascontiguousarray(frames[:, :, begin:end])
    wave = call("codec_vocoder", frames=part, frames_len=np.array([end - begin], np.int32))["waveform"][0]
    offset = (before - begin) * hop
    return wave[offset + from_sample : offset + to_sample]


def vocoder_reach(config: CodecConfig) -> int:
    """Return the vocoder's receptive field in frames to either side: 3 per convolution, and its window's overlap."""
    return 3 * (config.vocos.layers + 1) + -(-config.vocos.n_fft // config.vocos.hop)


def decode(
    call: Call,
    config: CodecConfig,
    codes: np.ndarray,
    schedule: Schedule = PUBLISHED,
    reference: np.ndarray | None = None,
) -> np.ndarray:
    """Return the samples `[codes x upsample]` float32 of codes `[channels, codes]`."""
    return _joined(decode_stream(call, config, [codes], schedule, reference))


def decode_stream(
    call: Call,
    config: CodecConfig,
    arriving: Iterable[np.ndarray],
    schedule: Schedule = STREAMING,
    reference: np.ndarray | None = None,
) -> Iterator[np.ndarray]:
    """Yield chunks of sound `[samples]` as soon as they are final, for codes that arrive as arrays `[channels, n]`."""
    decoder = WindowedDecoder(call, config, schedule, reference)
    for codes in arriving:
        chunk = decoder.push(codes)
        if len(chunk):
            yield chunk
    chunk = decoder.finish()
    if len(chunk):
        yield chunk


def _joined(chunks: Iterable[np.ndarray]) -> np.ndarray:
    parts = list(chunks)
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)
