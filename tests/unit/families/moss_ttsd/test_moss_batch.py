"""Dialogues of a JSONL file, recordings given as files, and loading from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from support.moss_helpers import write_checkpoint

from tritone.audio.wav import read_samples
from tritone.errors import InvalidRequest, TritoneError
from tritone.families.moss_ttsd import batch, networks
from tritone.families.moss_ttsd.reference import read_recording
from tritone.load import Model, load_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("moss"))


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return load_model(folder)


def tone(seconds: float, rate: int, hertz: float = 220.0) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def test_recordings_are_mixed_down_and_resampled(tmp_path: Path) -> None:
    mono, path = tone(1.0, 44100), tmp_path / "stereo.wav"
    soundfile.write(path, np.stack([mono * 1.5, mono * 0.5], axis=1), 44100, subtype="FLOAT")
    found = read_recording(path)
    assert found.dtype == np.float32 and found.shape == (16000,)
    assert np.abs(found[500:-500] - tone(1.0, 16000)[500:-500]).max() < 1e-3
    soundfile.write(path, tone(1.0, 16000), 16000, subtype="FLOAT")
    assert np.array_equal(read_recording(path), tone(1.0, 16000))


@pytest.mark.parametrize(
    ("samples", "rate", "message"),
    [
        (tone(1.0, 8000), 8000, "prompt_audio: is sampled at 8000 Hz; record it at 16000 Hz or more"),
        (np.zeros(0, np.float32), 16000, "prompt_audio: is empty: it has no samples"),
        (np.zeros(16000, np.float32), 16000, "prompt_audio: is silent"),
        (tone(0.2, 48000), 48000, "prompt_audio: too short: 0.20 s"),
    ],
)
def test_recordings_that_cannot_be_heard_are_refused(
    tmp_path: Path, samples: np.ndarray, rate: int, message: str
) -> None:
    soundfile.write(tmp_path / "a.wav", samples, rate)
    with pytest.raises(InvalidRequest, match=message):
        read_recording(tmp_path / "a.wav", "prompt_audio")


def test_what_is_no_recording_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"reference_wav: no sound file at .*none.wav"):
        read_recording(tmp_path / "none.wav")
    (tmp_path / "text.wav").write_text("no sound")
    with pytest.raises(InvalidRequest, match="is not a sound file that can be read"):
        read_recording(tmp_path / "text.wav")


def items(tmp_path: Path) -> list[dict[str, Any]]:
    """Published items, recordings beside the file and below `voices`."""
    (tmp_path / "voices").mkdir()
    for name, hertz in (("both.wav", 150.0), ("voices/one.wav", 180.0), ("voices/two.wav", 240.0)):
        soundfile.write(tmp_path / name, tone(1.0, 24000, hertz), 24000)
    short = {"max_seconds": 1.0, "seed": 3}
    singles = {f"prompt_{kind}_speaker{n}": f"{word}" for n, kind, word in (
        (1, "audio", "one.wav"), (1, "text", "One."), (2, "audio", "two.wav"), (2, "text", "Two."))}  # fmt: skip
    return [
        {"text": "[S1]Hello. [S2]Hi.", **short},
        {"text": "[S1]Hello. [S2]Hi.", "prompt_audio": "both.wav", "prompt_text": "[S1]One.[S2]Two.", **short},
        {"text": "[S1]Hello. [S2]Hi.", "base_path": str(tmp_path / "voices"), **singles, **short, "max_seconds": 2.0},
    ]


def test_every_line_becomes_a_file_whatever_else_is_in_the_batch(folder: Path, model: Model, tmp_path: Path) -> None:
    good, path, out = items(tmp_path), tmp_path / "in.jsonl", tmp_path / "out"
    lines = [json.dumps(item) for item in good]
    bad = [
        ("[1]", "line: holds a list, not an object"),
        ("{", "line: is not valid JSON"),
        (json.dumps({"text": "[S3]Who?"}), r"target_text: names [S3]"),
        (json.dumps({"text": "[S1]x", "prompt_audio": "none.wav"}), "prompt_audio: no sound file at"),
        (json.dumps({"text": "[S1]x", "voice": "x"}), "voice: no such input"),
        (json.dumps(good[1] | {"prompt_text_speaker1": "x"}), "prompt_text_speaker1: came with recordings of single"),
        (json.dumps({"text": 7}), "text: is a int; give a string"),
        (json.dumps({"text": "[S1]x", "prompt_audio": "both.wav"}), "prompt_text: is missing; write the transcript"),
        ('{"text": "[S1]x", "text": "[S1]y"}', "line: is not valid JSON: the key 'text' occurs twice in one object"),
        ('{"text": "[S1]x", "max_seconds": NaN}', "line: is not valid JSON: NaN is not a number in JSON"),
        ('{"text": "[S1]\\ud800"}', "line: has half of a surrogate pair"),
        ('{"text": null, "seed": 1}', "text: is missing or empty; the line has seed"),
        ('{"text": "[S1]x", "target_text": "[S1]y"}', "target_text: is called `text` in a line"),
        ('{"text": "[S1]x", "prompt_audio_speaker3": "both.wav"}', "prompt_audio_speaker3: no such input; inputs are"),
        ('{"text": "[S1]x", "base_path": 7}', "base_path: is a int; give a string"),
        ('{"text": "[S1]x", "seed": [[1], [2, 3]]}', "seed: takes one number or one row of int64"),
        ('{"text": "[S1]x", "seed": 18446744073709551615}', "seed: is beyond the -9223372036854775808 to"),
        (json.dumps({"text": "[S1]x", "prompt_audio": "a" * 999, "prompt_text": "x"}), "prompt_audio: "),
    ]
    written = [lines[0], "", *(line for line, _ in bad[:4]), lines[1], *(line for line, _ in bad[4:]), lines[2]]
    path.write_text("\n".join(written) + "\n")
    arguments = [str(path), "--checkpoint", str(folder), "--out", str(out)]
    assert batch.main([*arguments, "--together", "5"]) == 1
    results = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert [result["line"] for result in results] == [1, *range(3, 23)]
    errors = [result["error"] for result in results if "error" in result]
    assert len(errors) == len(bad)
    for (_, wanted), error in zip(bad, errors, strict=True):
        assert wanted in error
    found = {result["line"]: result["seconds"] for result in results if "wav" in result}
    assert found == {1: 0.96, 7: 0.96, 22: 2.0}
    assert sorted(file.name for file in out.glob("*.wav")) == ["output_0.wav", "output_20.wav", "output_5.wav"]
    for index, item in zip((0, 5, 20), good, strict=True):
        (alone,) = batch.speak(model, [batch.item_request(item, tmp_path, model)])
        assert isinstance(alone, np.ndarray)
        samples, rate = read_samples(out / f"output_{index}.wav")
        assert rate == 32000 and samples.shape == alone.shape
        assert np.abs(samples - np.clip(alone, -1, 1)).max() < 1e-3


def test_a_file_of_good_lines_is_a_success_and_none_is_an_error(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "in.jsonl", tmp_path / "out"
    arguments = [str(path), "--checkpoint", str(folder), "--out", str(out)]
    assert batch.main(arguments) == 1 and "in.jsonl is missing or not a file" in capsys.readouterr().err
    path.write_text("\n")
    assert batch.main(arguments) == 1 and "in.jsonl is empty; write one JSON object" in capsys.readouterr().err
    said = '{"text": "[S1]Hello\u2028there.", "max_seconds": 0.5}'
    path.write_bytes(f"\ufeff{said}\r\n\r\n{said}\r\n".encode())
    assert batch.main(arguments) == 0
    assert capsys.readouterr().out == "line 1: output_0.wav, 0.48 s\nline 3: output_1.wav, 0.48 s\n"
    assert sorted(file.name for file in out.glob("*.wav")) == ["output_0.wav", "output_1.wav"]
    (tmp_path / "file").touch()
    assert batch.main([*arguments[:-1], str(tmp_path / "file")]) == 1
    assert "file is a file where a folder belongs" in capsys.readouterr().err
    arguments[2] = str(tmp_path / "no checkpoint")
    path.write_text("Hello.\n" * 124)
    assert batch.main(arguments) == 1
    told = capsys.readouterr().err
    assert "in.jsonl is no JSONL file: not one of its lines is a JSON object: line 1 is not valid JSON" in told
    assert told.count("\n") == 1, "one sentence, before the checkpoint is looked at"


def test_a_batch_that_fails_is_tried_one_by_one(model: Model, tmp_path: Path) -> None:
    """One dialogue the networks stumble over costs the others nothing."""
    requests = [batch.item_request({"text": t, "max_seconds": 0.5}, tmp_path, model) for t in ("[S1]One.", "[S1]Two.")]
    whole = batch.speak(model, requests)
    llm = model.family.hosts[1]

    def stumbling(call: Any, open_llm: Any, given: list[Any]) -> list[Any]:
        if any(np.array_equal(one["prompt_rows"], poisoned) for one in given):
            raise RuntimeError("out of memory")
        return llm.run(call, open_llm, given)

    poisoned = model.family.hosts[0].run(model.call, None, requests[:1])[0]["prompt_rows"]
    from dataclasses import replace

    family = replace(model.family, hosts=(model.family.hosts[0], replace(llm, run=stumbling), model.family.hosts[2]))
    first, second = batch.speak(replace(model, family=family), requests)
    assert isinstance(first, RuntimeError) and isinstance(second, np.ndarray)
    assert np.array_equal(second, whole[1])


def test_load_from_the_command_line_says_what_it_is(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--dtype", "float32", "--attention", "eager", "--device", "cpu", "--warm-up"]
    assert networks.main([str(folder), *arguments]) == 0
    said = capsys.readouterr().out
    assert "language model: 2 layers of 16, 8 channels" in said and "in float32 on cpu, eager" in said
    assert "codec: 32000 Hz, 8 x 1024 codes at 12.5 Hz" in said
    assert networks.main([str(folder), *arguments, "--dtype", "int8"]) == 1
    assert "torch_dtype 'int8'" in capsys.readouterr().err
    assert networks.main([str(tmp_path), *arguments]) == 1
    assert "lacks the codec's configuration" in capsys.readouterr().err


def test_references_as_tensors_must_not_be_empty(model: Model) -> None:
    with pytest.raises(InvalidRequest, match="reference_wav: is empty: it has no samples"):
        model.synthesize("[S1]x", reference_wav=np.zeros(0, np.float32))
    with pytest.raises(TritoneError, match="speaker: no such input"):
        model.synthesize("[S1]x", speaker="a")
