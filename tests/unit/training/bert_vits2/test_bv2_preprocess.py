"""`python -m training.bert_vits2.preprocess`: steps whole, interrupted, in shards, in processes, on a full disk."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from support.bert_vits2.corpus import RATE, TEXTS, write_bert, write_corpus
from support.golden_weights import GOLDEN

from training.bert_vits2.data.buckets import BucketSampler
from training.bert_vits2.data.collate import Epochs
from training.bert_vits2.data.dataset import SpeechDataset
from training.bert_vits2.data.filelist import LANGUAGES, Utterance, read_utterances
from training.bert_vits2.data.recording import read_recording
from training.bert_vits2.preparation import items
from training.bert_vits2.preparation.shards import Shard, mapped
from training.bert_vits2.preparation.split import speaker_ids, split
from training.bert_vits2.preprocess import main, recordings
from tritone.audio.wav import read_wav, write_wav
from tritone.errors import ArtifactError, ConfigError
from tritone.families.bert_vits2.config import read_config


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("encoders")
    texts = "".join("".join(texts) for texts in TEXTS.values())
    return {name: write_bert(folder / name, texts + "abcdefghijklmnopqrstuvwxyz.,!") for name in ("ZH", "EN")}


def test_a_corpus_becomes_batches(
    tmp_path: Path, encoders: dict[str, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    transcript = write_corpus(tmp_path / "raw", rate=22050)
    lines = transcript.read_text(encoding="utf-8").replace(f"{tmp_path}/raw/wavs", "wavs")
    more = "wavs/zh0.wav|ben|ZH|再说一次。\nwavs/no.wav|ben|EN|Lost.\nwavs/en9.wav|ben|EN|...\n"
    Path("transcript.list").write_text(lines + more, encoding="utf-8")
    write_wav(tmp_path / "raw/wavs/en9.wav", 0.3 * np.sin(np.arange(22050) * 0.05), 22050)

    assert run("resample", "--in", "raw/wavs", "--out", "wavs", "--workers", 0) == 0
    assert "wavs: 10 made, 0 there already, 0 left out" in capsys.readouterr().out
    assert clean(Path("transcript.list"), Path("cleaned.list"), "--tokenizer", encoders["EN"]) == 0
    out = capsys.readouterr().out
    assert "cleaned.list: 9 of 12 lines" in out and "wavs/no.wav: the recording is missing" in out
    rejected = Path("cleaned.list.rejected").read_text(encoding="utf-8")
    assert rejected.splitlines() == [
        "wavs/no.wav: the recording is missing",
        "wavs/en9.wav: target_text: nothing in '…' has a known sound in EN",
        "wavs/zh0.wav: has 2 lines; the first is used",
    ]
    assert [u.wav for u in read_utterances(Path("cleaned.list"))] == [line.split("|")[0] for line in lines.splitlines()]

    models = [f"--model={name}={folder}" for name, folder in encoders.items()]
    assert run("bert", "--list", "cleaned.list", *models) == 0
    assert "6 made, 0 there already, 0 left out\n  3 utterances in JP: no --model for it" in capsys.readouterr().out
    assert run("spectrograms", "--list", "cleaned.list", "--workers", 0) == 0
    config = GOLDEN / "bert_vits2" / "config_full.json"
    assert run("split", "--list", "cleaned.list", "--out", "lists", "--config", config, "--val-per-language", 1) == 0
    assert "2 + 1 ZH, 2 + 1 JP, 2 + 1 EN utterances" in capsys.readouterr().out

    settings = read_config("lists/config.json").data
    assert settings.spk2id == {"anna": 0, "ben": 1} and settings.training_files == "lists/train.list"
    utterances = read_utterances(Path(settings.training_files))
    caches = [Path(u.wav).with_suffix(".spec.npz").stat().st_mtime_ns for u in utterances]
    dataset = SpeechDataset(utterances, settings, bert=("ZH", "EN"), cache=True)
    batches = list(Epochs(dataset, BucketSampler(dataset.lengths, 2)).batches(0))
    assert sum(len(batch.frames) for batch in batches) >= len(utterances) == 6
    assert [Path(u.wav).with_suffix(".spec.npz").stat().st_mtime_ns for u in utterances] == caches


def test_resampled_recordings_are_mono_at_the_rate_and_not_made_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import soundfile

    source, target = tmp_path / "in", tmp_path / "out"
    (source / "ben").mkdir(parents=True)
    wave = np.sin(np.arange(16000) * 0.05).astype(np.float32) * 0.5
    soundfile.write(source / "ben" / "a.flac", np.stack([wave, wave], 1), 16000)
    soundfile.write(source / "b.wav", wave[:0], 16000)
    (source / "c.wav").write_text("no sound")
    soundfile.write(source / "d.wav", np.array([0.1, np.nan, 0.1], np.float32), 16000, subtype="FLOAT")
    arguments = ("resample", "--in", source, "--out", target, "--workers", 0)
    assert run(*arguments) == 1
    out = capsys.readouterr().out
    assert "1 made, 0 there already, 3 left out" in out
    assert (
        "b.wav: is empty: it has no samples" in out
        and "c.wav is not a sound file" in out
        and "d.wav: is too short: 3 samples" in out
    )
    info = soundfile.info(target / "ben" / "a.wav")
    assert (info.samplerate, info.channels, info.frames, info.subtype) == (RATE, 1, 44100, "PCM_16")
    assert np.abs(read_wav(target / "ben" / "a.wav", 16000)[200:-200] - wave[200:-200]).max() < 1e-3
    for name in "bcd":
        (source / f"{name}.wav").unlink()
    before = (target / "ben" / "a.wav").stat().st_mtime_ns
    assert run(*arguments) == 0 and "0 made, 1 there already" in capsys.readouterr().out
    assert (target / "ben" / "a.wav").stat().st_mtime_ns == before
    assert run(*arguments, "--rate", 22050) == 0 and soundfile.info(target / "ben" / "a.wav").samplerate == 22050
    (target / "ben" / "a.wav").write_bytes(b"RIFF torn")
    assert run(*arguments) == 0 and soundfile.info(target / "ben" / "a.wav").samplerate == RATE
    os.utime(source / "ben" / "a.flac", ns=(0, (target / "ben" / "a.wav").stat().st_mtime_ns + 1))
    assert run(*arguments) == 0 and "1 made" in capsys.readouterr().out


def test_recordings_that_would_harm_a_training_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import soundfile

    source, target, tone = tmp_path / "in", tmp_path / "out", 0.3 * np.sin(np.arange(32000) * 0.05)
    source.mkdir()
    bad = {
        "nan": (np.where(np.arange(32000) == 9, np.nan, tone), 16000, "nan.wav: contains NaN"),
        "silent": (tone * 0, 16000, "silent.wav: is silent"),
        "faint": (tone * 1e-3, 16000, "faint.wav: is silent"),
        "anti": (np.stack([tone, -tone], 1), 16000, "anti.wav: its channels cancel each other"),
        "phone": (tone, 8820, "phone.wav: is sampled at 8820 Hz; record it at 16000 Hz or more"),
        "square": (np.clip(tone * 99, -1, 1), 16000, "square.wav: is clipped to a square wave"),
    }
    for name, (wav, rate, _) in {**bad, "good": (tone, 16000, "")}.items():
        soundfile.write(source / f"{name}.wav", wav, rate, subtype="FLOAT")
    target.mkdir()
    write_wav(target / "silent.wav", tone * 0, RATE)  # as an earlier version made it
    write_wav(target / "phone.wav", tone, RATE)
    arguments = ("resample", "--in", source, "--out", target, "--workers", 0)
    assert run(*arguments) == 1
    out = capsys.readouterr().out
    assert "1 made, 0 there already, 6 left out" in out and [p.name for p in target.iterdir()] == ["good.wav"]
    assert {name for name, (_, _, problem) in bad.items() if problem not in out} == set()
    # Recordings that were never resampled are looked at when their lines are cleaned.
    rows = [f"{source}/{name}.wav|ben|EN|Hello there." for name in ("good", "silent", "phone")]
    (tmp_path / "t.list").write_text("\n".join(rows))
    assert clean(tmp_path / "t.list", tmp_path / "c.list") == 0
    rejected = (tmp_path / "c.list.rejected").read_text()
    assert "silent.wav: is silent" in rejected and "phone.wav: is sampled at 8820 Hz" in rejected
    assert [u.wav for u in read_utterances(tmp_path / "c.list")] == [f"{source}/good.wav"]


def test_words_that_a_language_cannot_say_leave_a_line_out_with_the_reason(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", 0.3 * np.sin(np.arange(RATE) * 0.05), RATE)
    texts = {
        "ZH|我用iPhone15打电话给Tom。": "a.wav: target_text: has 'iPhone', 'Tom', which ZH cannot say; write",
        "ZH|ＣＰＵ温度是37度": "a.wav: target_text: has 'CPU', which ZH cannot say",
        "JP|Приветを聞く": "a.wav: target_text: has 'Привет', which JP cannot say",
        "ZH|温度是37度！😀": "",
    }
    for line, reason in texts.items():
        (tmp_path / "t.list").write_text(f"{tmp_path}/a.wav|ben|{line}\n{tmp_path}/b.wav|ben|ZH|好", encoding="utf-8")
        assert clean(tmp_path / "t.list", tmp_path / "c.list", "--redo") == int(bool(reason))
        rejected = (tmp_path / "c.list.rejected").read_text(encoding="utf-8")
        assert reason in rejected and ("a.wav" in rejected) == bool(reason)
    assert [u.text for u in read_utterances(tmp_path / "c.list")] == ["温度是三十七度!"]


def test_recordings_need_names_and_folders_of_their_own(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no sound files"):
        recordings(tmp_path, tmp_path / "out")
    write_wav(tmp_path / "a.wav", np.zeros(9), 9)
    with pytest.raises(ConfigError, match="resampled recordings need a folder of their own"):
        recordings(tmp_path, tmp_path / "out")
    (tmp_path / "a.flac").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"several recordings would become .*a.wav"):
        recordings(tmp_path, tmp_path.parent / "elsewhere")


def clean(transcript: Path, out: Path, *more: object) -> int:
    return run("clean", "--transcript", transcript, "--out", out, "--workers", 0, *more)


def test_shards_merge_to_what_one_run_gives(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    transcript = write_corpus(tmp_path / "corpus")
    with open(transcript, "a", encoding="utf-8") as file:
        file.write("nowhere.wav|ben|EN|Lost.\n" + transcript.read_text(encoding="utf-8").split("\n")[0] + "\n")
    assert clean(transcript, tmp_path / "whole.list") == 0
    out = tmp_path / "parts.list"
    for i in (2, 0):
        assert clean(transcript, out, "--shard", f"{i}/3") == 0
        assert not out.exists()
    assert "belong to other shards, so " in capsys.readouterr().out
    assert clean(transcript, out, "--shard", "1/3") == 0
    assert out.read_bytes() == (tmp_path / "whole.list").read_bytes()
    assert Path(f"{out}.rejected").read_bytes() == (tmp_path / "whole.list.rejected").read_bytes()


def test_shards_are_disjoint_and_whole() -> None:
    items = list(range(11))
    parts = [Shard.parse(f"{i}/4").take(items) for i in range(4)]
    assert sorted(i for part in parts for i in part) == items
    assert parts == [Shard(i, 4).take(items) for i in range(4)]
    for wrong in ("4/4", "1", "-1/4", "a/b", "1/0"):
        with pytest.raises(ConfigError, match="is invalid; write i/n"):
            Shard.parse(wrong)


def test_cleaning_goes_on_where_it_was_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transcript, out = write_corpus(tmp_path / "corpus"), tmp_path / "cleaned.list"
    done: list[str] = []
    original = items.clean

    def counted(row, tokenizer=None):  # type: ignore[no-untyped-def]
        if len(done) == 4:
            raise KeyboardInterrupt
        done.append(row.wav)
        return original(row, tokenizer)

    monkeypatch.setattr(items, "clean", counted)
    with pytest.raises(KeyboardInterrupt):
        clean(transcript, out)
    journal = next(tmp_path.glob("cleaned.list.journal-*"))
    journal.write_bytes(journal.read_bytes()[:-20])  # the last line is torn
    monkeypatch.setattr(items, "clean", lambda row, tokenizer=None: done.append(row.wav) or original(row, tokenizer))
    assert clean(transcript, out) == 0
    assert done[4:] == [line.split("|")[0] for line in transcript.read_text().splitlines()[3:]]
    assert len(read_utterances(out)) == 9
    before, done[:] = out.read_bytes(), []
    assert clean(transcript, out) == 0 and done == [] and out.read_bytes() == before
    assert clean(transcript, out, "--redo") == 0 and len(done) == 9 and out.read_bytes() == before


def test_no_usable_line_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t.list").write_text("nowhere.wav|ben|EN|Lost.\n")
    assert clean(tmp_path / "t.list", tmp_path / "c.list") == 1
    assert "none of the 1 lines is usable:\n  nowhere.wav: the recording is missing" in capsys.readouterr().err
    assert not (tmp_path / "c.list").exists()


def test_features_follow_text_and_encoder(
    tmp_path: Path, encoders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    transcript, out = write_corpus(tmp_path / "corpus"), tmp_path / "cleaned.list"
    clean(transcript, out)
    zh = f"--model=ZH={encoders['ZH']}"
    assert run("bert", "--list", out, zh) == 0 and "3 made" in capsys.readouterr().out
    assert run("bert", "--list", out, zh) == 0 and "0 made, 3 there already" in capsys.readouterr().out
    path = next((tmp_path / "corpus").rglob("zh0.bert.zh.npz"))
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:1000])
    assert run("bert", "--list", out, zh) == 0 and "1 made, 2 there already" in capsys.readouterr().out
    assert run("bert", "--list", out, zh, "--half") == 0 and "3 made" in capsys.readouterr().out
    assert path.stat().st_size < 0.6 * size
    other = write_bert(tmp_path / "ZH", "".join(TEXTS["ZH"]))
    assert run("bert", "--list", out, f"--model=ZH={other}", "--half") == 0 and "3 made" in capsys.readouterr().out
    # English that was cleaned by words has no number per token of an encoder
    assert run("bert", "--list", out, f"--model=EN={encoders['EN']}") == 1
    assert "clean the text with the tokenizer in" in capsys.readouterr().out
    assert run("bert", "--list", out, "--model", "FR=x") == 1
    assert "write LANGUAGE=FOLDER; the languages are ZH, JP, EN" in capsys.readouterr().err
    assert run("bert", "--list", out, "--model", f"ZH={tmp_path / 'no'}") == 1
    assert "the BERT encoder for ZH should be in" in capsys.readouterr().err


def test_spectrograms_that_cannot_be_made_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    transcript, out = write_corpus(tmp_path / "corpus"), tmp_path / "cleaned.list"
    clean(transcript, out)
    write_wav(tmp_path / "corpus/wavs/zh0.wav", np.zeros(9000), 22050)
    for shard in ("0/2", "1/2"):
        assert run("spectrograms", "--list", out, "--workers", 0, "--shard", shard) == (shard == "0/2")
    assert len(list((tmp_path / "corpus" / "wavs").glob("*.spec.npz"))) == 8
    assert "zh0.wav is sampled at 22050 Hz; the model needs 44100 Hz" in capsys.readouterr().out


def utterance(name: str, language: str, speaker: str = "ben") -> Utterance:
    return Utterance(name, speaker, language, "x", ("_", "a", "_"), (0, 0, 0), (1, 1, 1))


def test_the_split_is_seeded_bounded_and_stable() -> None:
    rows = [utterance(f"{language}{i}.wav", language) for language in LANGUAGES for i in range(20)]
    training, validation = split(rows, 4, 12, seed=1)
    assert sorted(u.language for u in validation) == ["EN"] * 4 + ["JP"] * 4 + ["ZH"] * 4
    assert sorted(u.wav for u in training + validation) == sorted(u.wav for u in rows)
    assert split(rows[::-1], 4, 12, seed=1)[1] == validation[::-1]
    assert split(rows, 4, 12, seed=2)[1] != validation
    assert sorted(u.language for u in split(rows, 4, 7)[1]) == ["EN"] * 2 + ["JP"] * 2 + ["ZH"] * 3
    assert [len(part) for part in split(rows[:1], 4, 12)] == [1, 0]
    assert split(rows, 0, 12)[1] == []
    with pytest.raises(ConfigError, match="cannot hold out -1"):
        split(rows, -1)


def test_speakers_keep_their_ids() -> None:
    assert speaker_ids(["b", "a", "b"], {}) == {"a": 0, "b": 1}
    assert speaker_ids(["b", "c", "a"], {"b": 0, "z": 2}) == {"b": 0, "z": 2, "a": 1, "c": 3}


def test_the_split_writes_a_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [utterance(f"{i}.wav", "EN", f"s{i % 3}") for i in range(9)]
    (tmp_path / "c.list").write_text("".join(f"{u.line()}\n" for u in rows))
    (tmp_path / "config.json").write_text(json.dumps({"data": {"n_speakers": 2}, "train": {"seed": 7}}))
    arguments = ("split", "--list", tmp_path / "c.list", "--out", tmp_path / "lists", "--config")
    assert run(*arguments, tmp_path / "config.json") == 0
    assert "3 speakers (n_speakers was 2)" in capsys.readouterr().out
    document = json.loads((tmp_path / "lists" / "config.json").read_text())
    assert document["data"]["n_speakers"] == 3 and document["train"] == {"seed": 7}
    assert json.loads((tmp_path / "config.json").read_text()) == {"data": {"n_speakers": 2}, "train": {"seed": 7}}
    assert run(*arguments, tmp_path / "none.json") == 1
    assert "none.json does not exist" in capsys.readouterr().err
    (tmp_path / "bad.json").write_text("{")
    assert run(*arguments, tmp_path / "bad.json") == 1 and "is not valid JSON" in capsys.readouterr().err
    (tmp_path / "bad.json").write_text('{"data": {"hop": 3}}')
    assert run(*arguments, tmp_path / "bad.json") == 1 and "hop" in capsys.readouterr().err


@pytest.mark.parametrize("step", ["resample", "clean", "spectrograms", "split"])
def test_a_full_disk_ends_a_step_and_loses_nothing(
    tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    transcript, out = write_corpus(tmp_path / "corpus"), tmp_path / "cleaned.list"
    wavs, config = tmp_path / "corpus" / "wavs", GOLDEN / "bert_vits2" / "config_full.json"
    commands: dict[str, Callable[[], int]] = {
        "resample": partial(run, "resample", "--in", wavs, "--out", tmp_path / "out", "--workers", 0),
        "clean": partial(clean, transcript, out, "--redo"),
        "spectrograms": partial(run, "spectrograms", "--list", out, "--workers", 0),
        "split": partial(run, "split", "--list", out, "--out", tmp_path / "lists", "--config", config),
    }
    clean(transcript, out)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    writes = iter(range(100))
    fsync = os.fsync

    def full(descriptor: int) -> None:
        if next(writes) >= (step != "clean") and not os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert commands[step]() == 1
    assert "the disk is full" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.part"))
    for path, content in before.items():
        assert path.read_bytes() == content or "journal" in path.name
    assert commands[step]() == 0


def test_a_journal_on_a_full_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    transcript, out = write_corpus(tmp_path / "corpus"), tmp_path / "cleaned.list"
    assert clean(transcript, out, "--shard", "0/2") == 0
    (tmp_path / "cleaned.list.journal-1of2.jsonl").symlink_to("/dev/full")  # every write to it finds the disk full
    assert clean(transcript, out, "--shard", "1/2") == 1
    assert "the disk is full" in capsys.readouterr().err and not out.exists()


def test_workers_give_what_one_process_gives(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus", rate=22050)
    for workers in (0, 2):
        assert run("resample", "--in", tmp_path / "corpus", "--out", tmp_path / f"{workers}", "--workers", workers) == 0
    one, two = (sorted((tmp_path / name).rglob("*.wav")) for name in "02")
    assert len(one) == 9 and [a.read_bytes() for a in one] == [b.read_bytes() for b in two]


def test_an_error_in_a_worker_ends_the_work() -> None:
    for workers in (0, 2):
        with pytest.raises(ArtifactError, match="the recording nowhere"):
            list(mapped(partial(read_recording, rate=RATE), [Path("nowhere"), Path("nowhere else")], workers))
