"""Inputs that only some models have: by their declared datatype, refused in a sentence where that cannot hold them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tritone.client.command import further_input, parser
from tritone.client.errors import InvalidArgument, SpeechError
from tritone.client.recording import WavWriter
from tritone.client.request import further_arrays

DECLARED = {"language": "TYPE_STRING", "top_p": "TYPE_FP32", "steps": "TYPE_INT64", "reference_wav_2": "FP32"}


def test_each_input_gets_its_declared_datatype() -> None:
    wav = np.linspace(-1, 1, 5, dtype=np.float32)
    given = {"language": "2", "top_p": "0.5,0.25", "steps": 3, "reference_wav_2": wav}
    found = further_arrays(given, DECLARED)
    assert found["language"].tolist() == [[b"2"]]
    assert found["top_p"].dtype == np.float32 and found["top_p"].tolist() == [[0.5, 0.25]]
    assert found["steps"].dtype == np.int64 and found["steps"].tolist() == [[3]]
    assert found["reference_wav_2"].dtype == np.float32 and np.array_equal(found["reference_wav_2"], wav[None])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"pitch": 1}, "pitch: the model has no such input; its inputs are language, reference_wav_2, steps, top_p"),
        ({"top_p": "high"}, r"top_p: is 'high'; the model takes numbers \(float32\)"),
        ({"top_p": float("nan")}, "top_p: is nan"),
        ({"steps": 1.5}, r"steps: is 1.5; the model takes numbers \(int64\)"),
        ({"steps": []}, r"steps: is \[\]"),
        ({"language": 3}, "language: is of type int, not a text"),
    ],
)
def test_what_no_tensor_can_hold_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        further_arrays(given, DECLARED)


def test_the_command_line_reads_names_values_and_recordings(tmp_path: Path) -> None:
    writer = WavWriter(tmp_path / "a.wav", 16000)
    writer.write(np.zeros(16000, np.float32))
    writer.__exit__()
    options = parser().parse_args(["x", "--input", "language=JP", "--input", f"reference_wav_2=@{tmp_path}/a.wav"])
    found = dict(map(further_input, options.input))
    assert found["language"] == "JP" and found["reference_wav_2"].shape == (16000,)
    np.save(tmp_path / "happy.npy", np.ones((1, 512), np.float32))
    name, numbers = further_input(f"emotion=@{tmp_path}/happy.npy")
    assert further_arrays({name: numbers}, {name: "TYPE_FP32"})[name].shape == (1, 512)
    (tmp_path / "sad.npy").write_bytes(b"none")
    np.savez(tmp_path / "many.npz", a=np.ones(3))
    (tmp_path / "many.npz").rename(tmp_path / "many.npy")
    wrong = {
        "gone": "no file of numbers at",
        "sad": "is not an array that numpy.save",
        "many": "holds no numbers; save",
    }
    for file, message in wrong.items():
        with pytest.raises(SpeechError, match=message):
            further_input(f"emotion=@{tmp_path}/{file}.npy")
    with pytest.raises(SpeechError, match="--input language: write NAME=VALUE, such as language=JP"):
        further_input("language")
