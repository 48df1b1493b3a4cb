"""The three-language example: what it says and who says it, and the whole way from nothing to speech in miniature."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import quality
from training.bert_vits2 import example
from training.bert_vits2.config import read
from training.bert_vits2.data.filelist import read_utterances
from training.bert_vits2.preparation.example_texts import made_up
from training.corpus import flite
from tritone.audio.wav import read_wav
from tritone.errors import ConfigError, EnvironmentProblem
from tritone.families.bert_vits2.config import read_config
from tritone.families.bert_vits2.voice import Voice

ROOT = Path(__file__).parents[4]
PROGRAMS = ("flite", "espeak-ng")
needs_programs = pytest.mark.skipif(
    any(shutil.which(name) is None for name in PROGRAMS), reason="flite and espeak-ng speak the corpus"
)


@pytest.mark.parametrize("language", ["ZH", "JP", "EN"])
def test_made_up_sentences_are_many_different_and_always_the_same(language: str) -> None:
    texts = made_up(language, 1200)
    assert len(set(texts)) == 1200
    assert texts[:50] == made_up(language, 50) and texts[:50] != made_up(language, 50, seed=1)


def test_speakers_and_languages_have_their_shares() -> None:
    lines = example.plan(Path("x"), 1000)
    assert Counter((line.language, line.speaker) for line in lines) == {
        ("EN", "slt"): 500, ("EN", "rms"): 200, ("EN", "espeak"): 100, ("ZH", "espeak"): 100, ("JP", "espeak"): 100,
    }  # fmt: skip
    assert len({line.path for line in lines}) == len({line.text for line in lines}) == 1000
    with pytest.raises(ConfigError, match=r"--utterances 10 needs 8 sentences in EN; there are 3\."):
        example.plan(Path("x"), 10, ["One.", "Two.", "Three."])


def test_sentences_kept_for_testing_are_never_spoken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "texts").write_text("The sun is warm today.\n%\nSmoky fires lack flame and heat.\n%\nWe saw it all.\n")
    (tmp_path / "kept").write_text("Smoky fires lack flame and heat.\n")
    monkeypatch.setattr(example, "fortune_files", lambda: [tmp_path / "texts"])
    assert sorted(example.english_sentences([tmp_path / "kept"])) == ["The sun is warm today.", "We saw it all."]
    monkeypatch.setattr(example, "fortune_files", list)
    with pytest.raises(EnvironmentProblem, match="Run: apt-get install fortunes"):
        example.english_sentences([])


def test_a_missing_program_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "espeak-ng" else name)
    assert example.main(["--out", str(tmp_path / "corpus")]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: missing: espeak-ng. ") and said.endswith("Run: apt-get install espeak-ng\n")
    assert not (tmp_path / "corpus").exists()


@needs_programs
def test_every_language_is_spoken_by_its_voice() -> None:
    with np.errstate(all="raise"):
        found = {language: flite.tidy(example.espeak(text, language)) for language, text in example.SPOKEN.items()}
    for language, wav in found.items():
        assert 1.0 < len(wav) / flite.RATE < 5.0, language
    letters = subprocess.run(
        ["espeak-ng", "-q", "-x", "-v", example.ESPEAK_VOICES["ZH"], example.SPOKEN["ZH"]],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "(en)" not in letters.stdout, "this voice says Mandarin with English sounds"


def test_the_small_voice_is_served_with_the_filler_it_was_trained_with() -> None:
    family = read(example.CONFIG).family
    assert (read(example.CONFIG).train.bert_filler, Voice(family, {}).filler) == ("zeros", "zeros")
    assert Voice(replace(family, train={}), {}).filler == "normal", "that of version 2.3"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a `--smoke` run."""
    folder = tmp_path_factory.mktemp("example")
    line = [sys.executable, "-m", "training.bert_vits2.example", "--smoke", "--out", str(folder)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=280, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@needs_programs
@pytest.mark.timeout(300)
def test_from_nothing_to_speech_in_three_languages(made: Path) -> None:
    for language in example.SPOKEN:
        wav = read_wav(made / f"{language}.wav", 16000)
        assert 0.3 < len(wav) / 16000 < 30 and np.isfinite(wav).all() and wav.std() > 1e-4, language
    config = read_config(made / "run" / "step-00000004" / "config.json")
    assert set(config.data.spk2id) == {"slt", "rms", "espeak"} and config.data.n_speakers == 3
    assert {u.language for u in read_utterances(made / "corpus" / "train.list")} == {"ZH", "JP", "EN"}
    logged = (made / "run" / "train.rank0.log").read_text()
    steps = [line for line in logged.splitlines() if "\tstep " in line]
    assert ["D/loss" in step for step in steps] == [False, False, True, True], "judged from the third on"
    metrics = [json.loads(line) for line in (made / "run" / "metrics.jsonl").read_text().splitlines()]
    assert metrics[-1]["step"] == 4 and np.isfinite(metrics[-1]["mel_from_text"])


@needs_programs
@pytest.mark.timeout(300)
def test_a_checkpoint_s_english_is_scored(made: Path, tmp_path: Path) -> None:
    checkpoint = str(made / "run" / "step-00000004")
    chosen = ["--speakers", "slt", "--limit", "1", "--distances", "0", "--folder", str(tmp_path)]
    assert quality.main(["--checkpoint", checkpoint, *chosen]) == 0
    found = json.loads((tmp_path / "quality.json").read_text())["results"]["speakers"]
    assert found["slt"]["wer"] > 0.5, "networks of nothing after four steps were understood"
    assert found["slt"]["heard"][0]["seconds"] > 0.3
