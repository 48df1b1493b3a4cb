"""The command line client without a server: what it refuses, what it passes on, the sound files it reads and writes."""

from __future__ import annotations

import io
import sys
import wave
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tritone.client import command as speak
from tritone.client.errors import SpeechError
from tritone.client.recording import WavWriter, read_reference
from tritone.client.request import request_arrays
from tritone.client.speech_client import Speech, SpeechClient


def test_command_line_refuses_what_cannot_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    cases = {
        "no text given": ["-o", "x.wav"],
        "both a text and --source": ["x", "--source", "a.wav", "-o", "x.wav"],
        "--stream needs gRPC": ["x", "--stream", "--http", "-o", "x.wav"],
        "nowhere to send the audio": ["x"],
        "--play needs one of ffplay, aplay, paplay": ["x", "--play"],
        "no sound file at": ["x", "-o", "x.wav", "--reference", str(tmp_path / "gone.wav")],
        "the folder /no/such does not exist": ["x", "-o", "/no/such/x.wav"],
        "it is a folder; give a file": ["x", "-o", str(tmp_path)],
        "http://localhost:1 is an address of HTTP, and gRPC was chosen": [
            "x",
            "-o",
            "x.wav",
            "--url=http://localhost:1",
        ],
        "no Triton server answers http at localhost:1": [
            "x",
            "-o",
            "x.wav",
            "--http",
            "--url=http://localhost:1/",
            "--wait=0.1",
        ],
        "no Triton server answers grpc at localhost:1": ["x", "-o", "x.wav", "--url", "localhost:1", "--wait", "0.1"],
    }
    for message, arguments in cases.items():
        assert speak.main(arguments) == 1
        said = capsys.readouterr().err
        assert message in said and said.startswith("error: ") and said.count("\n") == 1


def test_command_line_has_every_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Options arrive as controls; standard input arrives as pieces, line by line."""
    for name in ("voice", "words"):
        with WavWriter(tmp_path / f"{name}.wav", 16000) as writer:
            writer.write(np.full(1600, 0.5))
    asked: list[tuple[str, Any, dict[str, Any]]] = []

    class Client(SpeechClient):
        sample_rate, recording_rate = 24000, 16000
        pieces = True

        def parameters(self) -> dict[str, str]:
            return {"text_in_pieces": "turns"} if self.pieces else {}

        def wait_until_ready(self, timeout: float = 60.0) -> None:
            pass

        def synthesize(self, text: str | None = None, **controls: Any) -> Speech:
            asked.append(("whole", text, controls))
            return Speech(np.zeros(2400, np.float32), 24000, 0.1)

        def speak_pieces(self, pieces: Iterable[str], **controls: Any) -> Iterator[np.ndarray]:
            asked.append(("pieces", list(pieces), controls))
            yield np.zeros(2400, np.float32)

    monkeypatch.setattr(speak, "SpeechClient", Client)
    out = ["-o", str(tmp_path / "out.wav")]
    voice = ["--reference", str(tmp_path / "voice.wav"), "--reference-text", "Yes."]
    assert speak.main(["x", *out, *voice, "--instruct", "softly", "--mode", "instruct2", "--speed", "2"]) == 0
    assert speak.main(["--source", str(tmp_path / "words.wav"), "--speaker", "rms", "--seed", "3", *out]) == 0
    assert speak.main(["x", "--input", "language=JP", *out]) == 0
    monkeypatch.setattr(Client, "recording_rate", 24000)
    assert speak.main(["x", *out, *voice[:2]]) == 0
    _, _, own_rate = asked.pop()
    assert own_rate["reference"].shape == (2400,) and own_rate["inputs"] == {"reference_rate": 24000}
    monkeypatch.setattr(sys, "stdin", io.StringIO("One line.\n\n  Another.\n"))
    assert speak.main(["-", *out]) == 0
    for further in ([], ["--http"]):  # a model that needs the whole text at once, and a protocol without streams
        monkeypatch.setattr(Client, "pieces", bool(further))
        monkeypatch.setattr(sys, "stdin", io.StringIO("One line.\n\n  Another.\n"))
        assert speak.main(["-", *further, *out]) == 0
    monkeypatch.setattr(sys, "stdin", io.StringIO(" \n"))
    monkeypatch.setattr(Client, "pieces", False)
    assert speak.main(["-", *out]) == 1
    assert "error: no text came from standard input" in capsys.readouterr().err
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"caf\xe9\n"), "utf-8"))
    assert speak.main(["-", *out]) == 1
    assert "error: standard input is not UTF-8: " in capsys.readouterr().err
    given = [(kind, text, {k for k, v in controls.items() if v is not None}) for kind, text, controls in asked]
    assert given == [
        ("whole", "x", {"reference", "reference_text", "instruct_text", "mode", "speed"}),
        ("whole", None, {"source", "speaker", "seed"}),
        ("whole", "x", {"inputs"}),
        ("pieces", ["One line. ", "Another. "], set()),
        ("whole", "One line. Another.", set()),
        ("whole", "One line. Another.", set()),
    ]
    for _, text, controls in asked:
        controls.pop("inputs")
        request_arrays("" if isinstance(text, list) else text, **controls)


def test_chunks_are_written_and_timed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chunks = iter([np.full(2400, 0.5, np.float32), np.full(2400, -0.5, np.float32)])
    speak.deliver(chunks, 24000, tmp_path / "a.wav", None)
    printed = capsys.readouterr().out
    assert printed.startswith("0.20 s of audio, first audio after") and "real-time factor" in printed
    with wave.open(str(tmp_path / "a.wav")) as file:
        assert (file.getframerate(), file.getnframes(), file.getnchannels()) == (24000, 4800, 1)
    with pytest.raises(SpeechError, match="the server sent no audio"):
        speak.deliver(iter([]), 24000, None, None)


def broken(error: BaseException) -> Iterator[np.ndarray]:
    """Yield a tenth of a second, then fail."""
    yield np.full(2400, 0.5, np.float32)
    raise error


def test_a_stream_that_breaks_off_says_what_is_in_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.wav"
    with pytest.raises(SpeechError, match=r"^the server ended; .*/a\.wav is incomplete: it holds the first 0\.1 s$"):
        speak.deliver(broken(SpeechError("the server ended")), 24000, path, None)
    with wave.open(str(path)) as file:
        assert file.getnframes() == 2400
    with pytest.raises(SpeechError, match=r"cannot write .*/a\.wav: No space left on device; .* is incomplete"):
        speak.deliver(broken(OSError(28, "No space left on device")), 24000, path, None)
    with pytest.raises(KeyboardInterrupt):
        speak.deliver(broken(KeyboardInterrupt()), 24000, path, None)
    assert "stopped; " in (said := capsys.readouterr().err) and "is incomplete: it holds the first 0.1 s" in said
    with pytest.raises(SpeechError, match=r"^gone$"):
        speak.deliver(broken(SpeechError("gone")), 24000, None, None)


def test_reference_is_mixed_and_resampled(tmp_path: Path) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(24000) / 24000)
    with WavWriter(tmp_path / "a.wav", 24000) as writer:
        writer.write(tone)
    found = read_reference(tmp_path / "a.wav")
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    assert found.shape == (16000,) and np.abs(found - expected)[200:-200].max() < 1e-3
    with wave.open(str(tmp_path / "b.wav"), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(3)
        file.setframerate(16000)
        file.writeframes(b"\x00\x00\x40\x00\x00\xc0" * 100 + b"\x00\x00\x40\x00\x00\x40" * 100)
    assert np.allclose(read_reference(tmp_path / "b.wav"), [0.0] * 100 + [0.5] * 100)
