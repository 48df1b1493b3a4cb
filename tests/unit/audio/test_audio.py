"""Features equal recorded reference numbers; bad reference audio is refused in words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tritone.audio.kaldi import kaldi_fbank
from tritone.audio.mel import MelConfig, mel_filters, mel_spectrogram
from tritone.audio.reference import check_reference
from tritone.audio.resample import resample
from tritone.audio.wav import read_wav, write_wav
from tritone.audio.whisper import whisper_mel
from tritone.errors import InvalidRequest, TritoneError

GOLDEN = Path(__file__).parents[2] / "golden" / "cosyvoice_v2" / "frontend.npz"


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as arrays:
        return dict(arrays)


def close(ours: np.ndarray, theirs: np.ndarray) -> bool:
    return ours.shape == theirs.shape and bool(np.abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max())


def test_mel_spectrogram_golden(golden: dict[str, np.ndarray]) -> None:
    """Magnitudes agree everywhere; logarithms wherever the level is above the float32 rounding of the recording."""
    ours, theirs = mel_spectrogram(golden["wav24"][0], MelConfig()), golden["mel"][0]
    assert close(np.exp(ours), np.exp(theirs))
    audible = theirs > theirs.max() - np.log(1e4)  # 80 dB below the peak
    assert audible.sum() > 1000 and close(ours[audible], theirs[audible])
    assert np.abs(ours - theirs).max() < 5e-3


def test_mel_formula_in_float32_is_the_golden_one(golden: dict[str, np.ndarray]) -> None:
    """Equal filters, window and padding with float32 rounding give the recorded numbers to the last bits."""
    torch = pytest.importorskip("torch")
    wav = torch.nn.functional.pad(torch.from_numpy(golden["wav24"]), (720, 720), mode="reflect")
    spectrum = torch.stft(wav, 1920, 480, 1920, torch.hann_window(1920), center=False, return_complex=True)
    magnitude = torch.sqrt(torch.view_as_real(spectrum).pow(2).sum(-1) + 1e-9)
    filters = torch.from_numpy(mel_filters(24000, 1920, 80, 0.0, 8000.0).astype(np.float32))
    assert close(torch.log(torch.clamp(filters @ magnitude, min=1e-5)).numpy(), golden["mel"])


def test_whisper_mel_golden(golden: dict[str, np.ndarray]) -> None:
    assert close(whisper_mel(golden["wav16"][0]), golden["whisper128"][0])


def test_kaldi_fbank_golden(golden: dict[str, np.ndarray]) -> None:
    assert close(kaldi_fbank(golden["wav16"][0]), golden["fbank80"])
    assert close(kaldi_fbank(golden["wav16"][0], subtract_mean=True), golden["fbank80_cmn"])


def test_filters_depend_on_every_parameter() -> None:
    """One cache serves models of several rates: no two parameter sets may share a filterbank."""
    banks = [
        mel_filters(24000, 1920, 80, 0.0, 8000.0),
        mel_filters(22050, 1920, 80, 0.0, 8000.0),
        mel_filters(24000, 1920, 80, 0.0, None),
        mel_filters(24000, 1920, 80, 50.0, 8000.0),
    ]
    assert all(not np.array_equal(a, b) for i, a in enumerate(banks) for b in banks[:i])
    assert mel_filters(24000, 1024, 100).shape == (100, 513)
    assert not banks[0].flags.writeable


def test_tone_lands_in_its_band() -> None:
    time = np.arange(24000) / 24000
    mel = mel_spectrogram(np.sin(2 * np.pi * 1000.0 * time).astype(np.float32), MelConfig())
    peak = int(mel_filters(24000, 1920, 80, 0.0, 8000.0)[:, 80].argmax())
    assert mel.shape == (80, 50) and int(mel.mean(axis=1).argmax()) == peak


@pytest.mark.parametrize(
    "function, shortest",
    [(lambda wav: mel_spectrogram(wav, MelConfig()), 720), (whisper_mel, 200), (kaldi_fbank, 399)],
)
def test_too_short_signals_are_named(function: Callable[[np.ndarray], np.ndarray], shortest: int) -> None:
    with pytest.raises(ValueError, match=f"samples, got shape \\({shortest},\\)"):
        function(np.zeros(shortest, np.float32))


def test_wav_round_trip_resamples_and_mixes(tmp_path: Path) -> None:
    import soundfile

    tone = (0.5 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)).astype(np.float32)
    write_wav(tmp_path / "a.wav", tone, 16000)
    assert np.abs(read_wav(tmp_path / "a.wav", 16000) - tone).max() < 1e-4
    assert np.abs(read_wav((tmp_path / "a.wav").read_bytes(), 16000) - tone).max() < 1e-4
    assert read_wav(tmp_path / "a.wav", 24000).shape == resample(tone, 16000, 24000).shape == (24000,)
    soundfile.write(tmp_path / "b.wav", np.stack([tone, 0 * tone], axis=1), 16000, subtype="FLOAT")
    assert np.allclose(read_wav(tmp_path / "b.wav", 16000), tone / 2, atol=1e-6)
    write_wav(tmp_path / "loud.wav", np.array([2.0, -2.0]), 16000)
    assert np.abs(read_wav(tmp_path / "loud.wav", 16000)).max() <= 1.0


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(TritoneError, match=r"no sound file at .*gone\.wav"):
        read_wav(tmp_path / "gone.wav", 16000)
    with pytest.raises(TritoneError, match="the given bytes is not a sound file that can be read"):
        read_wav(b"not a wav", 16000)


VOICE = (0.1 * np.sin(np.arange(16000))).astype(np.float32)
WITH_NAN = np.where(np.arange(16000) == 7, np.nan, VOICE).astype(np.float32)
WITH_INF = np.where(np.arange(16000) == 7, np.inf, VOICE).astype(np.float32)


def test_good_reference_is_cut_to_its_length() -> None:
    padded = np.concatenate([VOICE, np.full(500, np.nan, np.float32)])[None]
    assert np.array_equal(check_reference(padded, np.array([[16000]], np.int32)), VOICE)
    assert np.array_equal(check_reference(VOICE), VOICE)


@pytest.mark.parametrize(
    "wav, length, message",
    [
        (VOICE.astype(np.float64), None, "reference_wav: must be float32 .*got float64"),
        (VOICE.reshape(2, 8000), None, r"reference_wav: must have shape \[1, samples\], got \[2, 8000\]"),
        (VOICE.reshape(1, 1, -1), None, r"reference_wav: must have shape \[1, samples\], got \[1, 1, 16000\]"),
        (WITH_NAN, None, "reference_wav: contains NaN or infinite"),
        (WITH_INF, None, "reference_wav: contains NaN or infinite"),
        (VOICE[:7999], None, "reference_wav: too short: 0.50 s at 16000 Hz, need at least 0.5 s"),
        (VOICE, 100, "reference_wav: too short: 0.01 s"),
        (VOICE[:0], None, "reference_wav: is empty: it has no samples"),
        (np.tile(VOICE, 31), None, "reference_wav: too long: 31.00 s at 16000 Hz, the limit is 30 s"),
        (VOICE * 1e-3, None, "reference_wav: is silent"),
        (VOICE, 16001, "reference_wav_len: must be one number from 1 to 16000 samples, got 16001"),
        (VOICE, 0, "reference_wav: is empty: it has no samples; send a recording of 0.5 s or more, or leave it out"),
        (VOICE, -5, "reference_wav_len: must be one number .* got -5"),
        (VOICE, np.array([1, 2]), r"reference_wav_len: must be one number .* got \[1, 2\]"),
    ],
)
def test_bad_reference_is_refused(wav: np.ndarray, length: object, message: str) -> None:
    with pytest.raises(InvalidRequest, match="INVALID_ARGUMENT: " + message):
        check_reference(wav, length)  # type: ignore[arg-type]
