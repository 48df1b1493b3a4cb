"""Sentences, flite's voices, LJSpeech-style folders and the manifest."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from training import prepare
from training.corpus import flite
from training.corpus.manifest import read_metadata, write_manifest
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


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["a|One two."], ("a", "voice", "One two.")),
        (["a|One two.|ann"], ("a", "ann", "One two.")),
        (["a|1 two.|One two."], ("a", "voice", "One two.")),
        (["a|1 two.|One two.|ann"], ("a", "ann", "One two.")),
    ],
)
def test_every_form_of_metadata(tmp_path: Path, lines: list[str], expected: tuple[str, str, str]) -> None:
    folder = tmp_path / "voice"
    folder.mkdir()
    (folder / "metadata.csv").write_text("\n".join(lines))
    assert read_metadata(folder) == [expected]


def test_metadata_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"metadata\.csv does not exist; it should have lines `id\|text`"):
        read_metadata(tmp_path)
    (tmp_path / "metadata.csv").write_text("a|b\nc|d|e\n")
    with pytest.raises(ConfigError, match=r"the same 2 to 4 columns separated by '\|', found \[2, 3\] columns"):
        read_metadata(tmp_path)


def test_manifest_of_real_recordings(tmp_path: Path) -> None:
    recordings(tmp_path, ["one", "two"])
    (tmp_path / "metadata.csv").write_text("one|Hello there.\ntwo|Good morning.\nlost|Not here at all.\n")
    count, problems = write_manifest(tmp_path, processes=1)
    rows = [json.loads(line) for line in (tmp_path / "manifest.jsonl").read_text().splitlines()]
    assert count == 2 and problems == [f"lost: no recording {tmp_path}/wavs/lost.wav (or .flac, .ogg, .mp3)"]
    assert [row["samples"] for row in rows] == [16000, 32000]
    assert rows[0]["phones"][0] == "h" and rows[0]["phones"][-1] == "."


def test_a_folder_without_usable_recordings(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text("lost|Not here at all.\n")
    with pytest.raises(ConfigError, match=r"none of 1 utterances can be used; the first reason: lost: no recording"):
        write_manifest(tmp_path, processes=1)
