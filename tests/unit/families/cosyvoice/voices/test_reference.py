"""A voice from a recording equals what the published front end makes of it, in all three versions."""

from __future__ import annotations

import numpy as np
import pytest
from support.front_helpers import CONFIGS, hearing, prompt, recorded
from support.golden_weights import GOLDEN

from tritone.audio.mel import mel_spectrogram
from tritone.audio.reference import check_rate, check_reference
from tritone.audio.resample import sinc_resample
from tritone.errors import InvalidRequest
from tritone.families.cosyvoice.voices.reference import reference_voice, source_tokens

VOICE = (0.1 * np.sin(np.arange(48000) / 7)).astype(np.float32)


def close(ours: np.ndarray, theirs: np.ndarray) -> bool:
    return ours.shape == theirs.shape and bool(np.abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max())


@pytest.mark.parametrize("version", [1, 2, 3])
def test_the_recorded_prompt(version: int) -> None:
    """The embedding is taken at 16 kHz, the mel at 24 kHz; resampled otherwise, the embedding is 1 % off."""
    golden = recorded(version)
    wav, rate = prompt()
    voice = reference_voice(hearing(golden["llm_prompt_speech_token"]), wav, rate, CONFIGS[version])
    assert close(voice.embedding, golden["llm_embedding"][0])
    assert close(np.exp(voice.mel), np.exp(golden["prompt_speech_feat"][0]))
    assert voice.speech_token.tolist() == golden["llm_prompt_speech_token"][0].tolist()
    assert not voice.trained


@pytest.mark.parametrize("version", [1, 3])
def test_the_mel_of_each_version(version: int) -> None:
    with np.load(GOLDEN / "cosyvoice_v2" / "frontend.npz") as arrays:
        wav = arrays["wav24"][0]
    golden = recorded(version)["mel"][0]
    assert close(np.exp(mel_spectrogram(wav, CONFIGS[version].mel)), np.exp(golden))


@pytest.mark.parametrize(("tokens", "kept"), [(49, 49), (50, 50), (52, 50)])
def test_tokens_and_mel_are_cut_to_one_length(tokens: int, kept: int) -> None:
    wav, rate = prompt()
    for version in (2, 3):
        voice = reference_voice(hearing(np.arange(tokens)), wav, rate, CONFIGS[version])
        assert len(voice.speech_token) == len(voice.llm_speech_token) == kept and len(voice.mel) == 2 * kept
        assert voice.speech_token.tolist() == list(range(kept))


def test_v1_keeps_both_lengths_and_the_published_rate() -> None:
    voice = reference_voice(hearing(np.arange(100)), *prompt(), CONFIGS[1])
    assert len(voice.speech_token) == 100 and len(voice.mel) == 187 == int(24000 * 2 / 256)


@pytest.mark.parametrize("rate", [16000, 22050, 44100, 48000])
def test_a_tone_survives_resampling(rate: int) -> None:
    def tone(at: int) -> np.ndarray:
        return (0.5 * np.sin(2 * np.pi * 440 * np.arange(at) / at)).astype(np.float32)

    for target in (16000, 24000):
        found = sinc_resample(tone(rate), rate, target)
        assert len(found) == target and found.dtype == np.float32
        assert np.abs(found - tone(target))[200:-200].max() < 2e-3


def test_lengths_are_rounded_up_and_nothing_stays_nothing() -> None:
    assert len(sinc_resample(np.ones(7, np.float32), 24000, 16000)) == 5
    assert sinc_resample(np.zeros(0, np.float32), 24000, 16000).shape == (0,)
    assert np.array_equal(sinc_resample(VOICE, 16000, 16000), VOICE)


@pytest.mark.parametrize(
    ("wav", "rate", "message"),
    [
        (np.tile(VOICE, 11)[:480001], 16000, "too long: 30.00 s at 16000 Hz, the limit is 30 s"),
        (VOICE[:0], 16000, "is empty: it has no samples; send a recording of 0.5 s or more, or leave it out"),
        (VOICE[:7999], 16000, "too short: 0.50 s at 16000 Hz, need at least 0.5 s"),
        (VOICE * 32767, 16000, "reaches .*; if these are numbers of 16 bits, divide them by 32768"),
        (np.stack([VOICE, VOICE]), 24000, r"must have shape \[1, samples\], got \[2, 48000\]"),
        (VOICE, 8000, "is sampled at 8000 Hz; record it at 16000 Hz or more"),
        (VOICE * 0, 16000, "is silent"),
    ],
)
def test_recordings_that_cannot_be_used(wav: np.ndarray, rate: int, message: str) -> None:
    with pytest.raises(InvalidRequest, match=f"INVALID_ARGUMENT: reference_wav: {message}"):
        reference_voice(hearing(np.arange(3)), wav, rate, CONFIGS[2])
    with pytest.raises(InvalidRequest, match=f"INVALID_ARGUMENT: source_wav: {message}"):
        source_tokens(hearing(np.arange(3)), wav, rate)


def test_half_a_minute_is_allowed_and_its_length_field_is_named() -> None:
    half_minute = np.tile(VOICE, 10)
    assert source_tokens(hearing(np.arange(750)), half_minute, 16000).tolist() == list(range(750))
    with pytest.raises(InvalidRequest, match="source_wav_len: must be one number"):
        check_reference(VOICE, -1, field="source_wav")
    check_rate(16000)
