"""Recordings and codes longer than one pass: windows that change nothing, streams equal to the whole, clean joins."""

from __future__ import annotations

import numpy as np
import pytest
from support.moss_helpers import numbers, tiny_codec_call, tiny_codec_config

from tritone.audio.whisper import whisper_mel
from tritone.errors import ConfigError
from tritone.families.moss_ttsd.codec import windows
from tritone.families.moss_ttsd.codec.windows import PUBLISHED, STREAMING, WITH_REFERENCE, Schedule, decode, encode

CONFIG = tiny_codec_config()


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    white = np.random.default_rng(seed).standard_normal(round(16000 * seconds))
    return np.convolve(white, np.exp(-np.arange(40) / 8.0), "same").astype(np.float32) * 0.05


def codes(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, CONFIG.codebook[0], (CONFIG.channels, count))


@pytest.mark.parametrize("row", [0, 1])
def test_codes_of_a_recording_are_the_published_ones(row: int) -> None:
    golden = numbers("codec")
    assert np.array_equal(encode(tiny_codec_call(), CONFIG, golden[f"wav{row}"]), golden[f"enc{row}"])


@pytest.mark.parametrize("seconds", [0.3, 1.0, 29.99, 30.0, 47.3])
def test_less_silence_changes_no_code(seconds: float) -> None:
    """The published encoder fills every window up to 30 s; codes whose distances tie within rounding may differ."""
    wav = noise(seconds)
    expected = []
    for start in range(0, len(wav) // 1280 * 1280, 320000):
        part = wav[start : start + 480000]
        mel = whisper_mel(np.pad(part, (0, 480000 - len(part))), 80)[None]
        length = np.array([-(-len(part) // 160)], np.int32)
        full = tiny_codec_call()("codec_encoder", mel=mel, mel_len=length)["codes"][0]
        expected.append(full[:, : min(250, len(part) // 1280)])
    wanted = np.concatenate(expected, axis=1)[:, : len(wav) // 1280]
    found = encode(tiny_codec_call(), CONFIG, wav)
    assert found.shape == wanted.shape == (8, len(wav) // 1280)
    assert (found == wanted).mean() > 0.999


def test_what_is_shorter_than_a_code_has_none() -> None:
    assert encode(tiny_codec_call(), CONFIG, noise(0.07)).shape == (8, 0)


@pytest.mark.parametrize("count", [1, 17, 18, 19, 43, 100, 251, 375, 376, 700])
@pytest.mark.parametrize("schedule", [PUBLISHED, WITH_REFERENCE, STREAMING])
def test_a_stream_is_the_whole(schedule: Schedule, count: int) -> None:
    reference = codes(250, 1) if schedule is WITH_REFERENCE else None
    spoken = codes(count)
    whole = decode(tiny_codec_call(), CONFIG, spoken, schedule, reference)
    one_by_one = [spoken[:, at : at + 1] for at in range(count)]
    streamed = np.concatenate(list(windows.decode_stream(tiny_codec_call(), CONFIG, one_by_one, schedule, reference)))
    assert len(whole) == count * CONFIG.upsample
    assert np.array_equal(whole, streamed)


def test_first_sound_comes_after_two_seconds_of_rows() -> None:
    decoder = windows.WindowedDecoder(tiny_codec_call(), CONFIG, STREAMING)
    arrived = 0
    while not len(decoder.push(codes(1, arrived))):
        arrived += 1
    delay = CONFIG.channels - 1
    assert arrived + 1 + delay == 25


def test_one_window_is_one_pass() -> None:
    spoken = codes(60)
    call = tiny_codec_call()
    frames = call("codec_decoder", codes=spoken[None], codes_len=np.array([60], np.int32))["frames"]
    direct = call("codec_vocoder", frames=frames, frames_len=np.array([480], np.int32))["waveform"][0]
    assert np.array_equal(decode(call, CONFIG, spoken, PUBLISHED), direct)


def test_the_vocoder_needs_no_more_frames_than_it_is_given() -> None:
    """Decoding behind a reference runs the vocoder on the window alone, and gives what all frames would give."""
    reference, window, call = codes(50, 1), codes(40), tiny_codec_call()
    both = np.concatenate([reference, window], axis=1)
    frames = call("codec_decoder", codes=both[None], codes_len=np.array([90], np.int32))["frames"]
    all_of_it = call("codec_vocoder", frames=frames, frames_len=np.array([720], np.int32))["waveform"][0]
    for begin, end in ((0, 10 * 2560), (3 * 2560, 40 * 2560), (2560, 2561)):
        part = windows.decode_part(call, CONFIG, reference, window, begin, end)
        wanted = all_of_it[50 * 2560 + begin : 50 * 2560 + end]
        assert np.abs(part - wanted).max() <= 1e-5 * np.abs(all_of_it).max()


def test_the_blend_is_the_published_one() -> None:
    golden = numbers("lm")
    first, second, third = (golden[f"io_seg{n}"][0] for n in range(3))
    joined = np.concatenate([first[:-100], windows.blended(first[-100:], second)])
    joined = np.concatenate([joined[:-100], windows.blended(joined[-100:], third)])
    assert np.abs(joined - golden["io_crossfade"][0]).max() < 1e-6


def test_a_join_is_a_blend_of_both_sides() -> None:
    schedule = Schedule(first=20, hop=20, left=10, right=5)
    spoken, call = codes(40), tiny_codec_call()
    fade, join = 3200, 20 * 2560
    before = windows.decode_part(call, CONFIG, spoken[:, :0], spoken[:, :25], 0, join + fade)
    after = windows.decode_part(call, CONFIG, spoken[:, :0], spoken[:, 10:], 10 * 2560, 30 * 2560)
    rising = np.linspace(0, 1, fade)
    found = decode(call, CONFIG, spoken, schedule)
    assert np.array_equal(found[:join], before[:join])
    blended = before[join:] * (1 - rising) + after[:fade] * rising
    assert np.abs(found[join : join + fade] - blended).max() < 1e-5 * np.abs(found).max()
    assert np.array_equal(found[join + fade :], after[fade:])


@pytest.mark.parametrize(
    ("schedule", "prefix", "message"),
    [
        (Schedule(0, 10, 0, 5), 0, "first and hop >= 1"),
        (Schedule(300, 10, 0, 100), 0, "windows of 400 codes"),
        (WITH_REFERENCE, 300, r"windows of 425 codes; the limit is 375 codes \(30 s\)"),
        (Schedule(10, 10, 10, 1), 0, "too little context on the right for a cross-fade"),
    ],
)
def test_schedules_that_cannot_be_are_refused(schedule: Schedule, prefix: int, message: str) -> None:
    reference = codes(prefix) if prefix else None
    with pytest.raises(ConfigError, match=message):
        decode(tiny_codec_call(), CONFIG, codes(5), schedule, reference)
