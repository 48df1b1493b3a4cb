"""The corpus: feature stores, the validation split, batches that are a function of (seed, epoch)."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from training.core import distributed
from training.corpus import contents
from training.corpus.data import Corpus, Store, bucketed, pad
from tritone.audio.kaldi import kaldi_fbank
from tritone.audio.mel import MelConfig, mel_spectrogram
from tritone.audio.wav import read_wav, write_wav
from tritone.audio.whisper import whisper_mel
from tritone.errors import ArtifactError, ConfigError


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    (tmp_path / "wavs").mkdir()
    rng, lines = np.random.default_rng(0), []
    for i, samples in enumerate((16000, 20011, 12345)):
        write_wav(tmp_path / "wavs" / f"u{i}.wav", rng.uniform(-0.5, 0.5, samples), 16000)
        row = {"id": f"u{i}", "speaker": "ab"[i % 2], "text": "Hi.", "phones": ["h", "."], "samples": samples}
        lines.append(json.dumps(row | {"file": f"wavs/u{i}.wav"}))
    (tmp_path / "manifest.jsonl").write_text("\n".join(lines))
    return Corpus(tmp_path, processes=1)


def test_stores_hold_the_features_of_the_package(corpus: Corpus) -> None:
    wav = read_wav(corpus.utterances[1].path, 16000)
    wav24 = read_wav(corpus.utterances[1].path, 24000)
    expected = {
        "whisper": whisper_mel(wav).T,
        "fbank": kaldi_fbank(wav, subtract_mean=True),
        "mel": mel_spectrogram(wav24, MelConfig()).T,
        "audio": wav24[:, None] * 32767,
    }
    for kind, array in expected.items():
        store = corpus.store(kind)
        assert store.lengths[1] == len(array) and np.allclose(
            store[1], array, rtol=2e-3, atol=1 if kind == "audio" else 5e-3
        )
        assert np.array_equal(store.rows(1, 5, 10), store[1][5:10])
    assert len(corpus.store("mel").rows(2, 0, 10**6)) == corpus.store("mel").lengths[2], (
        "rows never reach into the next one"
    )


def test_two_mel_frames_per_token_without_remainder(corpus: Corpus) -> None:
    assert (corpus.store("whisper").lengths // 4 == corpus.store("mel").lengths // 2).all()


def test_a_changed_corpus_gets_new_features(corpus: Corpus) -> None:
    before = corpus.store_path("mel")
    lines = (corpus.folder / "manifest.jsonl").read_text().splitlines()
    (corpus.folder / "manifest.jsonl").write_text("\n".join(lines[:2]))
    assert (
        Corpus(corpus.folder).store_path("mel")
        != before
        != Corpus(corpus.folder, MelConfig(fmax=None)).store_path("mel")
    )


def test_a_replaced_recording_of_the_same_length_gets_new_features(corpus: Corpus) -> None:
    before, mel = corpus.store_path("mel"), corpus.store("mel")[1].copy()
    recording = corpus.utterances[1].path
    about = recording.stat()
    os.utime(recording, ns=(about.st_atime_ns, about.st_mtime_ns + 10**9))  # another time alone changes nothing
    assert Corpus(corpus.folder).store_path("mel") == before
    write_wav(recording, 0.2 * np.sin(np.arange(20011) * 0.03), 16000)
    again = Corpus(corpus.folder, processes=1)
    assert again.store_path("mel") != before and np.abs(again.store("mel")[1] - mel).max() > 0.1
    recording.unlink()
    assert Corpus(corpus.folder).store_path("mel") == again.store_path("mel"), "features outlive recordings"
    (corpus.folder / "features" / "contents.json").write_text("[1, {")
    assert Corpus(corpus.folder).store_path("mel") != again.store_path("mel")


def test_unchanged_recordings_are_not_read_again(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "_checksum", lambda path: pytest.fail(f"{path} was read again"))
    assert Corpus(corpus.folder).digest == corpus.digest


@pytest.mark.parametrize(
    ("wav", "message"),
    [
        (np.zeros(16000), r"recording u0 \(.*u0\.wav\): is silent: .*; make the manifest again with `python -m"),
        (
            0.2 * np.sin(np.arange(24000) * 0.03),
            r"recording u0 \(.*\) has 1\.50 s, the manifest says 1\.00 s; make the",
        ),
    ],
)
def test_a_recording_that_became_unusable_is_named(corpus: Corpus, wav: np.ndarray, message: str) -> None:
    write_wav(corpus.utterances[0].path, wav, 16000)
    with pytest.raises(ConfigError, match=message):
        Corpus(corpus.folder, processes=1).store("fbank")


def test_tokens_must_be_made_first(corpus: Corpus) -> None:
    with pytest.raises(
        ArtifactError, match=r"this corpus has no 'tokens' yet\. Run `python -m training\.prepare tokens"
    ):
        corpus.store("tokens")
    corpus.write("tokens", [np.full((n, 1), n, np.int16) for n in (3, 4, 5)])
    assert corpus.store("tokens")[2].tolist() == [[5]] * 5


def test_no_manifest_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"training\.prepare flite --out .*`python -m training\.prepare manifest"):
        Corpus(tmp_path)


def test_an_interrupted_store_is_not_a_store(tmp_path: Path) -> None:
    def broken():
        yield np.zeros((3, 2), np.float32)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Store.write(tmp_path / "mel", broken())
    assert not (tmp_path / "mel").exists()


def test_split_is_fixed_and_small(corpus: Corpus) -> None:
    held = [i for i in range(5000) if type(corpus.utterances[0])(f"slt_{i:05d}", "", "", (), 1, Path()).held_out]
    assert 60 < len(held) < 140
    assert sorted([*corpus.indices(True), *corpus.indices(False)]) == [0, 1, 2]


LENGTHS = np.random.default_rng(5).integers(20, 400, 500)


def test_batches_keep_the_budget_and_cover_everything() -> None:
    batches = bucketed(LENGTHS, np.arange(500), 4000, seed=1, epoch=0)
    assert sorted(np.concatenate(batches)) == list(range(500))
    assert max(len(b) * LENGTHS[b].max() for b in batches) <= 4000
    assert np.mean([LENGTHS[b].min() / LENGTHS[b].max() for b in batches]) > 0.75
    assert all(LENGTHS[b].max() <= 300 for b in bucketed(LENGTHS, np.arange(500), 4000, 1, 0, longest=300))


def test_batches_are_a_function_of_seed_and_epoch() -> None:
    def plan(seed: int, epoch: int) -> list[list[int]]:
        return [b.tolist() for b in bucketed(LENGTHS, np.arange(500), 4000, seed, epoch)]

    assert plan(1, 2) == plan(1, 2) and plan(1, 2) != plan(1, 3) and plan(1, 2) != plan(2, 2)


def test_processes_share_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    shares = []
    for rank in (0, 1):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        shares.append([b.tolist() for b in bucketed(LENGTHS, np.arange(500), 4000, 1, 0)])
    assert len(shares[0]) == len(shares[1])
    seen = [i for share in shares for batch in share for i in batch]
    assert len(seen) == len(set(seen)) > 400


def test_pad() -> None:
    assert pad([np.array([1, 2]), np.array([3])], 9).tolist() == [[1, 2], [3, 9]]
    assert pad([np.ones((2, 3)), np.ones((4, 3))]).shape == (2, 4, 3)
