"""Voices on disk: both file formats, safe editing, the published tools' layout, and the command."""

from __future__ import annotations

import errno
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.front_helpers import hearing, recorded
from support.golden_weights import GOLDEN

from tritone.errors import CheckpointError, ConfigError, EnvironmentProblem
from tritone.families.cosyvoice.versions import VERSIONS
from tritone.families.cosyvoice.voices import command as voices
from tritone.families.cosyvoice.voices import speaker_file
from tritone.families.cosyvoice.voices.speaker_file import edit_entries, read_entries, write_entries
from tritone.families.cosyvoice.voices.speakers import add_voice, read_voices, remove_voice, zero_shot_entry
from tritone.families.cosyvoice.voices.voice import Voice

ENTRIES = {
    "中文女": {"embedding": np.arange(192, dtype=np.float32)[None]},
    "a/b.c": {
        "prompt_text": np.array([[5, 6]], np.int32),
        "prompt_text_len": np.array([2], np.int32),
        "llm_prompt_speech_token": np.arange(4, dtype=np.int32)[None],
        "flow_prompt_speech_token": np.arange(4, dtype=np.int32)[None],
        "prompt_speech_feat": np.ones((1, 8, 80), np.float32),
        "llm_embedding": np.full((1, 192), 2, np.float32),
        "flow_embedding": np.full((1, 192), 3, np.float32),
    },
    "001": {
        "prompt_text": "说什么",
        "speech_token": np.arange(4)[None],
        "speech_feat": np.ones((1, 8, 80), np.float32),
        "embedding": np.zeros((1, 192), np.float32),
    },
}


def same(found: dict[str, dict[str, object]], wanted: dict[str, dict[str, object]]) -> bool:
    if list(found) != list(wanted):
        return False
    for name, entry in wanted.items():
        if set(found[name]) != set(entry):
            return False
        for key, value in entry.items():
            other = found[name][key]
            if isinstance(value, np.ndarray):
                if not (isinstance(other, np.ndarray) and other.dtype == value.dtype and np.array_equal(other, value)):
                    return False
            elif other != value:
                return False
    return True


@pytest.mark.parametrize("kind", ["pt", "safetensors"])
def test_every_layout_survives_either_format(kind: str, tmp_path: Path) -> None:
    assert write_entries(tmp_path, ENTRIES, kind).suffix == f".{kind}"
    assert same(read_entries(tmp_path), ENTRIES)
    found = read_voices(tmp_path)
    assert [found.get(name).trained for name in ENTRIES] == [True, False, True]
    heard = found.get("a/b.c").llm_embedding
    assert heard is not None and heard[0] == 2 and found.get("a/b.c").embedding[0] == 3


def test_the_published_tools_can_read_a_pt_file(tmp_path: Path) -> None:
    write_entries(tmp_path, ENTRIES, "pt")
    loaded = torch.load(tmp_path / "spk2info.pt", weights_only=True)
    assert loaded["001"]["prompt_text"] == "说什么" and loaded["a/b.c"]["prompt_text"].dtype == torch.int32


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_zero_shot_voice_is_kept_as_the_published_tools_keep_it(version: int, tmp_path: Path) -> None:
    golden = recorded(version)
    speech = golden["llm_prompt_speech_token"][0].astype(np.int64)
    voice = Voice("v", golden["llm_embedding"][0], None, golden["prompt_text"][0].astype(np.int64), speech, speech,
                  golden["prompt_speech_feat"][0])  # fmt: skip
    entry = zero_shot_entry(voice)
    same_as = {"flow_prompt_speech_token": "llm_prompt_speech_token", "flow_embedding": "llm_embedding"}
    for key in entry:
        wanted = golden[same_as.get(key.removesuffix("_len"), key.removesuffix("_len")) + "_len" * key.endswith("_len")]
        assert entry[key].dtype == wanted.dtype and np.array_equal(entry[key], wanted), key
    assert len(entry) == 10 and "embedding" not in entry
    add_voice(tmp_path, "v", entry)
    assert read_voices(tmp_path).get("v").prompt_ids.tolist() == golden["prompt_text"][0].tolist()


def test_adding_and_removing_leaves_the_others(tmp_path: Path) -> None:
    write_entries(tmp_path, ENTRIES, "pt")
    add_voice(tmp_path, "new", {"embedding": np.ones((1, 192), np.float32)})
    with pytest.raises(CheckpointError, match="already has a voice 'new'; add --replace to overwrite it"):
        add_voice(tmp_path, "new", {})
    add_voice(tmp_path, "new", {"embedding": np.zeros((1, 192), np.float32)}, replace=True)
    assert read_voices(tmp_path).get("new").embedding[0] == 0
    with pytest.raises(CheckpointError, match=r"has no voice 'zoe'; it has 001, a/b\.c, new, 中文女\."):
        remove_voice(tmp_path, "zoe")
    remove_voice(tmp_path, "new")
    assert same(read_entries(tmp_path), ENTRIES) and [p.name for p in tmp_path.iterdir()] == ["spk2info.pt"]
    with pytest.raises(CheckpointError, match="a voice needs a name"):
        add_voice(tmp_path, " ", {})


def test_changing_the_format_leaves_one_file(tmp_path: Path) -> None:
    write_entries(tmp_path, ENTRIES, "pt")
    add_voice(tmp_path, "new", {"embedding": np.ones((1, 192), np.float32)}, kind="safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["spk2info.safetensors"] and len(read_entries(tmp_path)) == 4
    with pytest.raises(ConfigError, match="written as safetensors or pt, not as 'npz'"):
        write_entries(tmp_path, {}, "npz")


def test_two_files_are_refused(tmp_path: Path) -> None:
    write_entries(tmp_path, ENTRIES, "pt")
    (tmp_path / "spk2info.safetensors").touch()
    with pytest.raises(CheckpointError, match=r"has both spk2info\.safetensors and spk2info\.pt, which may disagree"):
        read_voices(tmp_path)


@pytest.mark.parametrize("damage", [lambda data: data[:400], lambda data: b"", lambda data: b"\xff" * 64])
def test_a_damaged_safetensors_file_is_named(damage: object, tmp_path: Path) -> None:
    path = write_entries(tmp_path, ENTRIES)
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(CheckpointError, match=r"spk2info\.safetensors is damaged or was not written"):
        read_voices(tmp_path)


def test_a_foreign_safetensors_file_is_named(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"weight": np.zeros(3)}, tmp_path / "spk2info.safetensors")
    with pytest.raises(CheckpointError, match="was not written as a file of voices"):
        read_voices(tmp_path)


def test_a_failed_edit_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_entries(tmp_path, ENTRIES)
    before = path.read_bytes()
    with pytest.raises(RuntimeError):
        with edit_entries(tmp_path) as entries:
            entries.clear()
            raise RuntimeError
    monkeypatch.setattr(speaker_file, "_safetensors_bytes", lambda entries: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        remove_voice(tmp_path, "001")
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == [path.name]
    with pytest.raises(CheckpointError, match="there is no checkpoint directory"):
        remove_voice(tmp_path / "gone", "001")


def test_editors_wait_for_each_other(tmp_path: Path) -> None:
    def add(number: int) -> None:
        add_voice(tmp_path, f"{number:02}", {"embedding": np.full((1, 192), number, np.float32)})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(24)))
    assert read_voices(tmp_path).names == [f"{number:02}" for number in range(24)]


def test_writing_pt_without_torch_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(EnvironmentProblem, match="needs torch; write safetensors instead"):
        write_entries(tmp_path, ENTRIES, "pt")
    write_entries(tmp_path, ENTRIES)
    assert same(read_entries(tmp_path), ENTRIES)


@pytest.fixture
def checkpoint(tiny_v2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(tiny_v2, tmp_path / "tiny", ignore=shutil.ignore_patterns("llm.pt", "flow.pt", "hift.pt"))
    call = hearing(recorded(2)["llm_prompt_speech_token"])
    monkeypatch.setattr(voices, "recording_call", lambda folder, version: call)
    return tmp_path / "tiny"


def test_the_command(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wav = str(GOLDEN / "prompt.wav")

    def run(*arguments: str) -> tuple[int, str, str]:
        status = voices.main([str(checkpoint), *arguments])
        return (status, *capsys.readouterr())

    assert run("list")[:2] == (0, "a\tsft\nb\tsft\n")
    assert run("add", "bob", "--wav", wav, "--text", "I am a prompt text, ok.")[0] == 0
    golden, bob = recorded(2), read_voices(checkpoint).get("bob")
    assert bob.prompt_ids.tolist() == golden["prompt_text"][0].tolist()
    assert bob.speech_token.tolist() == bob.llm_speech_token.tolist() == golden["llm_prompt_speech_token"][0].tolist()
    assert run("add", "bob", "--wav", wav)[::2] == (
        1, f"error: {checkpoint} already has a voice 'bob'; add --replace to overwrite it.\n",
    )  # fmt: skip
    assert run("add", "bob", "--wav", wav, "--replace", "--format", "safetensors")[0] == 0
    assert run("add", "sam", "--wav", wav, "--embedding-only")[0] == 0
    assert run("list")[1] == "a\tsft\nb\tsft\nbob\tcross_lingual, instruct2, vc\nsam\tsft\n"
    assert run("remove", "bob")[0] == run("remove", "sam")[0] == 0
    assert run("remove", "bob")[2] == f"error: {checkpoint} has no voice 'bob'; it has a, b.\n"
    assert run("add", "x", "--wav", str(checkpoint / "none.wav"))[2].startswith("error: no sound file at")


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (errno.ENOSPC, "error: there is no room left on the disk of "),
        (errno.EROFS, "is on a disk that is mounted read-only; mount it for writing"),
        (errno.EACCES, "error: this user has no permission to change "),
    ],
)
def test_a_disk_that_cannot_be_written_is_a_sentence_and_the_voices_stay(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], code: int, sentence: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    path = speaker_file.find_file(checkpoint)
    assert path is not None
    before = path.read_bytes()
    monkeypatch.setattr("tritone.build.files.os.replace", refuse)
    assert voices.main([str(checkpoint), "add", "bob", "--wav", str(GOLDEN / "prompt.wav")]) == 1
    said = capsys.readouterr().err
    assert sentence in said and str(checkpoint) in said and "Traceback" not in said
    assert path.read_bytes() == before and not list(checkpoint.glob("*.part"))


def test_what_a_voice_can_be_used_for() -> None:
    plain = Voice("a", np.zeros(192, np.float32))
    first, second, third = VERSIONS.values()
    assert voices.uses(plain, first) == "sft, instruct" and voices.uses(plain, third) == "sft"
    full = replace(plain, speech_token=np.arange(3), prompt_ids=np.arange(3), trained=False)
    assert voices.uses(full, second) == "zero_shot, cross_lingual, instruct2, vc"
    assert voices.uses(full, first) == "zero_shot, cross_lingual, vc"
