"""Sentences, flite's voices, LJSpeech-style folders and the manifest."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from training import prepare
from training.corpus import flite
from training.corpus.manifest import write_manifest
from training.corpus.sentences import normalised, read_texts, sentences, shares, speakable
from tritone.audio.wav import read_wav, write_wav
from tritone.errors import ConfigError, EnvironmentProblem

needs_flite = pytest.mark.skipif(shutil.which("flite") is None, reason="Debian's flite is not installed")

TEXT = """Never trust a man who can count to 1024 on his fingers.
Old Smith went home early, "because it rained." Then he slept for
twelve long hours; nobody knew why, and nobody dared to ask him about it the next day.
		-- Mark Twain, "A book"
%
THE END IS VERY NEAR INDEED.
%
The com-
puter sat quietly in its corner.
%
Then he slept for twelve long hours.
"""


def test_sentences_are_clean_short_and_distinct(tmp_path: Path) -> None:
    path = tmp_path / "texts"
    path.write_text(TEXT)
    assert sentences(read_texts([path])) == [
        "Old Smith went home early, because it rained.",
        "Then he slept for twelve long hours; nobody knew why.",
        "And nobody dared to ask him about it the next day.",
        "The computer sat quietly in its corner.",
        "Then he slept for twelve long hours.",
    ]


def test_excluded_sentences_are_never_spoken(tmp_path: Path) -> None:
    path = tmp_path / "texts"
    path.write_text(TEXT)
    kept = sentences(read_texts([path]), exclude=["the COMPUTER sat quietly, in its corner!"])
    assert all("computer" not in text for text in kept) and len(kept) == 4
    assert normalised("The  Dog's bowl -- (empty).") == "the dog's bowl empty"


@pytest.mark.parametrize(
    "text",
    [
        "Call 555 1234 for help now",
        "too short here",
        "Zzz went the brrr engine",
        "He said aaargh to us",
        "Ångström was a man",
        "UNIX is a fine thing",
    ],
)
def test_what_cannot_be_read_aloud_is_dropped(text: str) -> None:
    assert speakable(text, 4, 14) is None


def test_shares_are_even_seeded_and_disjoint() -> None:
    texts = [f"sentence {i}" for i in range(100)]
    pairs = shares(texts, ["a", "b"], 60, seed=1)
    assert pairs == shares(texts, ["a", "b"], 60, seed=1) != shares(texts, ["a", "b"], 60, seed=2)
    assert len({text for text, _ in pairs}) == 60 and [v for _, v in pairs].count("a") == 30


def test_tidy_trims_and_levels() -> None:
    speech = 0.3 * np.sin(np.arange(16000) * 0.3)
    wav = np.concatenate([np.zeros(8000), speech, np.zeros(12000)]).astype(np.float32)
    tidy = flite.tidy(wav)
    assert abs(len(tidy) - (16000 + 2 * 1280)) <= 320
    assert np.sqrt((tidy[1600:-1600] ** 2).mean()) == pytest.approx(flite.LOUDNESS, rel=0.05)


@needs_flite
def test_a_spoken_corpus_goes_on_where_it_stopped(tmp_path: Path) -> None:
    pairs = [("The quick brown fox ran.", "kal16"), ("A small dog slept well.", "slt")]
    flite.make_corpus(pairs, tmp_path, processes=1)
    assert (tmp_path / "metadata.csv").read_text().splitlines()[1] == "slt_00001|A small dog slept well.|slt"
    kept = tmp_path / "wavs" / "kal16_00000.wav"
    before = kept.stat().st_mtime_ns
    (tmp_path / "wavs" / "slt_00001.wav").unlink()
    flite.make_corpus(pairs, tmp_path, processes=1)
    assert kept.stat().st_mtime_ns == before
    assert len(read_wav(tmp_path / "wavs" / "slt_00001.wav", 16000)) > 12000


@needs_flite
def test_unknown_voices_are_named() -> None:
    with pytest.raises(ConfigError, match=r"flite has no voice nobody; it has .*kal16.*slt"):
        flite.check_voices(["slt", "nobody"])


def test_missing_flite_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(EnvironmentProblem, match=r"flite is not installed;.*apt-get install flite"):
        flite.check_voices(["slt"])


def test_no_text_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "fortune_files", list)
    with pytest.raises(EnvironmentProblem, match="apt-get install fortunes, or give files with --text"):
        prepare.make_flite_corpus(tmp_path, 10, ["slt"], [], [])


def test_too_few_sentences_are_reported(tmp_path: Path) -> None:
    (tmp_path / "texts").write_text(TEXT)
    with pytest.raises(ConfigError, match=r"--utterances 10: the texts have 5 usable sentences; give more files"):
        prepare.make_flite_corpus(tmp_path, 10, ["slt"], [tmp_path / "texts"], [])


def recordings(folder: Path, names: list[str], rate: int = 22050) -> None:
    (folder / "wavs").mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        write_wav(folder / "wavs" / f"{name}.wav", 0.1 * np.sin(np.arange(rate * (1 + i)) * 0.05), rate)


def test_manifest_of_real_recordings(tmp_path: Path) -> None:
    recordings(tmp_path, ["one", "two"])
    (tmp_path / "metadata.csv").write_text("one|Hello there.\ntwo|Good morning.\nlost|Not here at all.\n")
    done = write_manifest(tmp_path, processes=1)
    rows = [json.loads(line) for line in (tmp_path / "manifest.jsonl").read_text().splitlines()]
    assert done.left_out == (f"lost: no recording {tmp_path}/wavs/lost.wav (or .flac, .ogg, .mp3)",)
    assert (done.count, done.columns) == (2, "columns: id, text")
    assert [row["samples"] for row in rows] == [16000, 32000]
    assert rows[0]["phones"][0] == "h" and rows[0]["phones"][-1] == "."


def test_a_folder_without_usable_recordings(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text("lost|Not here at all.\n")
    with pytest.raises(ConfigError, match=r"none of 1 utterances can be used .*; the first reason: lost: no recording"):
        write_manifest(tmp_path, processes=1)


def test_recordings_that_would_harm_a_training_are_left_out(tmp_path: Path) -> None:
    import soundfile

    rng, tone = np.random.default_rng(0), 0.3 * np.sin(np.arange(32000) * 0.05)
    broken = np.where(np.arange(32000) == 9, np.nan, tone)
    bad: dict[str, tuple[np.ndarray, int, str]] = {
        "nan": (broken, 16000, "contains NaN or infinite samples"),
        "inf": (np.where(np.arange(32000) == 9, np.inf, tone), 16000, "contains NaN or infinite samples"),
        "zero": (tone * 0, 16000, "is silent: no sample exceeds 0.001 of full scale"),
        "faint": (rng.normal(0, 1e-5, 32000), 16000, "is silent"),
        "offset": (tone * 0 + 0.8, 16000, "is silent"),
        "click": (np.where(np.arange(32000) == 9, 0.9, 0.0), 16000, "is nearly silent: 0.02 s"),
        "anti": (np.stack([tone, -tone], 1), 16000, "its channels cancel each other when they are averaged"),
        "nearly_anti": (np.stack([tone, -0.95 * tone], 1), 16000, "its channels cancel each other"),
        "phone": (tone, 8000, "is sampled at 8000 Hz; record it at 16000 Hz or more"),
        "blip": (tone[:900], 16000, "is too short: 900 samples at 16000 Hz; speech takes 0.1 s or more"),
        "short": (tone[:4000], 16000, "0.25 s is not within 0.4..30 s"),
        "square": (
            np.clip(tone * 100, -1, 1),
            16000,
            "is clipped to a square wave",
        ),
        "low_square": (0.2 * np.sign(tone), 16000, "is clipped to a square wave"),
        "numbers": (tone * 32768, 16000, "divide them by 32768"),
        "none": (tone[:0], 16000, "is empty: it has no samples"),
    }
    good = {
        "stereo": np.stack([tone, 0 * tone], 1),
        "bent": tone + 0.4,
        "loud": tone * 4,
        "late": np.pad(tone, (16000, 0)),
    }
    (tmp_path / "wavs").mkdir()
    for name, (wav, rate, _) in {**bad, **{name: (wav, 16000, "") for name, wav in good.items()}}.items():
        soundfile.write(tmp_path / f"wavs/{name}.wav", wav, rate, subtype="FLOAT")
    (tmp_path / "metadata.csv").write_text("".join(f"{name}|Hello there.\n" for name in (*bad, *good)))
    done = write_manifest(tmp_path, processes=0)
    rows = [json.loads(line) for line in (tmp_path / "manifest.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == list(good)
    left_out = dict(line.split(": ", 1) for line in done.left_out)
    assert left_out.keys() == bad.keys()
    assert {name for name, (_, _, problem) in bad.items() if problem not in left_out[name]} == set()
