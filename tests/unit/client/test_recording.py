"""Sound files of the command line: every form that soundfile reads, with and without that package, and what is none."""

from __future__ import annotations

import io
import struct
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tritone.audio.wav import read_wav
from tritone.client.errors import SpeechError
from tritone.client.output import check_output
from tritone.client.recording import PipeWriter, WavWriter, read_reference, writer

RATE = 16000
TONE = (0.5 * np.sin(2 * np.pi * 440 * np.arange(1601) / RATE) + 0.1).astype(np.float32)
PLAIN = [
    *(("WAV", kind) for kind in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW")),
    *(("WAVEX", kind) for kind in ("PCM_16", "PCM_24", "FLOAT", "ULAW")), ("RF64", "PCM_24"),
]  # fmt: skip
OTHER = [
    ("FLAC", "PCM_24"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"), ("AIFF", "PCM_16"),
    ("WAV", "IMA_ADPCM"), ("CAF", "PCM_16"), ("W64", "PCM_16"),
]  # fmt: skip
"""Forms that need soundfile; all are read under the name of a wav file, too."""


def written(folder: Path, form: str, kind: str, rate: int = RATE) -> Path:
    """Return a file of two different channels."""
    path = folder / f"{form}-{kind}-{rate}.wav"
    soundfile.write(path, np.stack([TONE, -0.25 * TONE], 1), rate, format=form, subtype=kind)
    return path


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation with tritonclient and NumPy only."""
    monkeypatch.setitem(sys.modules, "soundfile", None)


def test_plain_samples_are_read_without_a_package_as_with_one(tmp_path: Path, alone: None) -> None:
    for form, kind in PLAIN:
        path = written(tmp_path, form, kind)
        np.testing.assert_array_equal(read_reference(path), soundfile.read(path)[0].mean(1).astype(np.float32))


def test_every_value_of_eight_bits_is_decoded_as_the_package_does(tmp_path: Path, alone: None) -> None:
    for kind in ("ULAW", "ALAW", "PCM_U8"):
        path = written(tmp_path, "WAV", kind)
        data = bytes(range(256))
        path.write_bytes(path.read_bytes()[:-3202] + data + data)
        np.testing.assert_array_equal(read_reference(path), soundfile.read(path)[0].mean(1).astype(np.float32))


def test_other_forms_are_read_with_the_package_as_the_server_reads_them(tmp_path: Path) -> None:
    for form, kind in OTHER:
        path = written(tmp_path, form, kind, 48000 if kind == "OPUS" else RATE)
        found, expected = read_reference(path), read_wav(path, RATE)
        assert len(found) == len(expected) > 500
        if kind != "OPUS":
            np.testing.assert_array_equal(found, expected)


def test_other_forms_without_the_package_name_it(tmp_path: Path, alone: None) -> None:
    for form, kind in OTHER[:6]:
        with pytest.raises(SpeechError, match=r"not a wav file of plain samples \(.*\); other sounds need the package"):
            read_reference(written(tmp_path, form, kind))


def test_lengths_in_headers_are_not_believed(tmp_path: Path) -> None:
    whole = written(tmp_path, "WAV", "PCM_16").read_bytes()
    for place, name in ((40, "data"), (4, "file")):
        for size in (0, 0xFFFFFFFF, 7):
            path = tmp_path / f"{name}-{size}.wav"
            path.write_bytes(whole[:place] + struct.pack("<I", size) + whole[place + 4 :])
            assert len(read_reference(path)) == 1601
    (tmp_path / "cut.wav").write_bytes(whole[:-3])
    assert len(read_reference(tmp_path / "cut.wav")) == 1600
    odd = b"LIST" + struct.pack("<I", 3) + b"abc\0"
    (tmp_path / "odd.wav").write_bytes(whole[:12] + odd + whole[12:])
    assert len(read_reference(tmp_path / "odd.wav")) == 1601


def test_what_carries_no_voice_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "nothing.wav").write_bytes(b"")
    (tmp_path / "text.wav").write_text("This is no sound.\n" * 99)
    (tmp_path / "riff.wav").write_bytes(b"RIFF")
    (tmp_path / "header.wav").write_bytes(written(tmp_path, "WAV", "PCM_16").read_bytes()[:44])
    remedy = r"convert it, e\.g\. ffmpeg -i IN -ar 16000 OUT\.wav"
    for name, said in {
        "gone.wav": "no sound file at .*gone.wav",
        ".": "cannot be read: Is a directory",
        "nothing.wav": r"nothing\.wav is empty: it has no bytes; give a recording of 0\.5 s or more, or leave it out",
        "header.wav": r"header\.wav is empty: it has no samples; give a recording",
        "text.wav": rf"text\.wav is not a sound file that can be read \(wav, flac, ogg or mp3\): .*; {remedy}",
        "riff.wav": r"riff\.wav is not a sound file that can be read",
    }.items():
        with pytest.raises(SpeechError, match=said):
            read_reference(tmp_path / name)
    for form, kind in (("WAV", "PCM_16"), ("FLAC", "PCM_16")):
        with pytest.raises(SpeechError, match=r"8000\.wav is sampled at 8000 Hz; record it at 16000 Hz or more"):
            read_reference(written(tmp_path, form, kind, 8000))


def test_a_sound_is_written_in_the_form_that_its_name_says(tmp_path: Path) -> None:
    for name, form in {"a.wav": "WAV", "a.WAV": "WAV", "a.flac": "FLAC", "a.ogg": "OGG", "a.mp3": "MP3"}.items():
        check_output(tmp_path / name)
        file = writer(tmp_path / name, 24000)
        file.write(TONE)
        file.close()
        found = soundfile.info(tmp_path / name)
        assert (found.format, found.samplerate, found.channels) == (form, 24000, 1) and found.duration > 0.05


def test_a_name_that_cannot_be_written_is_refused_before_anything_is_spoken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path, said in {
        tmp_path: r"it is a folder; give a file, such as -o .*/out\.wav",
        tmp_path / "x" / "a.wav": "the folder .*/x does not exist",
        tmp_path / "a.m4a": r"\.m4a is not a sound that is written here; these are: \.wav, \.flac, \.ogg, \.mp3",
        tmp_path / "a.txt": r"\.txt is not a sound that is written here",
    }.items():
        with pytest.raises(SpeechError, match=said):
            check_output(path)
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(SpeechError, match="no permission"):
        check_output(tmp_path / "a.wav")
    monkeypatch.undo()
    monkeypatch.setattr(soundfile, "available_formats", lambda: {"FLAC": ""})
    with pytest.raises(SpeechError, match=r"the installed soundfile does not write mp3; give -o out\.wav"):
        check_output(tmp_path / "a.mp3")
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(SpeechError, match="flac files need the package soundfile, which is not installed; run: pip"):
        check_output(tmp_path / "a.flac")
    check_output(tmp_path / "a.wav")


def test_standard_output_gets_a_wav_and_a_terminal_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.BytesIO()
    pipe = PipeWriter(24000, out)
    pipe.write(TONE)
    pipe.write(TONE)
    pipe.close()
    (tmp_path / "piped.wav").write_bytes(out.getvalue())
    with WavWriter(tmp_path / "file.wav", 24000) as file:
        file.write(np.concatenate([TONE, TONE]))
    np.testing.assert_array_equal(read_reference(tmp_path / "piped.wav"), read_reference(tmp_path / "file.wav"))
    with wave.open(str(tmp_path / "file.wav")) as file_read:
        assert file_read.getnframes() == 3202
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    with pytest.raises(SpeechError, match="writes a sound to standard output, which is a terminal"):
        check_output(Path("-"))
