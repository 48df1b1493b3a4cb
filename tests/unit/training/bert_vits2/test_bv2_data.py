"""Bert-VITS2 training data: filelists, buckets, recordings, spectrograms, items, batches and epochs of them."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.bert_vits2.corpus import write_corpus
from support.golden_weights import GOLDEN

from training.bert_vits2.data.arrays import read_array, write_array
from training.bert_vits2.data.bert_files import bert_path, published_path
from training.bert_vits2.data.buckets import BOUNDARIES, BucketSampler
from training.bert_vits2.data.collate import Epochs, collate
from training.bert_vits2.data.dataset import SpeechDataset
from training.bert_vits2.data.filelist import Utterance, parse_utterance, read_transcripts, read_utterances
from training.bert_vits2.data.recording import read_recording
from training.bert_vits2.data.spectrogram_cache import (
    cache_path,
    cached_spectrogram,
    linear_spectrogram,
    make_spectrogram,
)
from training.bert_vits2.preparation import items
from tritone.audio.wav import write_wav
from tritone.errors import ArtifactError, ConfigError, EnvironmentProblem
from tritone.families.bert_vits2.config import DataConfig

DATA = DataConfig(spk2id={"anna": 0, "ben": 1}, n_speakers=2)
GOOD = "a.wav|ben|EN|Hi.|_ hh ay . _|0 3 2 0 0|1 2 1 1"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> list[Utterance]:
    rows = read_transcripts(write_corpus(tmp_path_factory.mktemp("corpus")))
    return [parse_utterance(items.clean(row).line) for row in rows]


@pytest.fixture
def copied(tmp_path: Path) -> list[Utterance]:
    """A corpus of this test's own, to be damaged."""
    rows = read_transcripts(write_corpus(tmp_path / "corpus"))[:2]
    return [parse_utterance(items.clean(row).line) for row in rows]


def keep_bert(utterance: Utterance, width: int | None = None) -> np.ndarray:
    """Return features of the right shape beside its recording, under our name."""
    phones = width or 2 * len(utterance.phones) + 1
    array = np.random.default_rng(1).standard_normal((1024, phones)).astype(np.float32)
    about = {"text": utterance.text, "word2ph": list(utterance.word2ph)}
    write_array(bert_path(Path(utterance.wav), utterance.language), array, about)
    return array


# Filelists


def test_a_cleaned_line_is_read_as_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "list").write_text(f"\ufeff{GOOD}\r\n\n{GOOD.replace('EN', 'en')}\n", encoding="utf-8")
    first, second = read_utterances(tmp_path / "list")
    assert (
        first
        == second
        == Utterance("a.wav", "ben", "EN", "Hi.", ("_", "hh", "ay", ".", "_"), (0, 3, 2, 0, 0), (1, 2, 1, 1))
    )
    assert first.line() == GOOD


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "a.wav|ben|EN",
            "line 2 has 3 columns separated by '|', needs 7: wav|speaker|language|text|phones|tones|word2ph",
        ),
        (GOOD.replace("EN", "FR"), "line 2 is in the unknown language 'FR'; the languages are ZH, JP, EN"),
        (GOOD.replace("0 3 2 0 0", "0 3 2"), "line 2 has 5 phones and 3 tones; there must be equally many"),
        (GOOD.replace("1 2 1 1", "1 2 1"), "line 2 has 5 phones, but its word2ph sums to 4"),
        (GOOD.replace("1 2 1 1", "1 3 -1 2"), "and has a negative number"),
        (GOOD.replace("1 2 1 1", "1 2 x"), "line 2 has word2ph that are not whole numbers: '1 2 x'"),
        (GOOD.replace("ben", " "), "line 2 has an empty speaker"),
        (GOOD.replace("_ hh ay . _", "").replace("0 3 2 0 0", ""), "line 2 has an empty phones"),
    ],
)
def test_lines_that_are_none_are_told_by_number(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "list").write_text(f"{GOOD}\n{line}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="is not a cleaned filelist") as caught:
        read_utterances(tmp_path / "list")
    assert message in str(caught.value)


def test_files_that_are_no_filelists(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing.list does not exist; it should be a transcript"):
        read_transcripts(tmp_path / "nothing.list")
    (tmp_path / "empty").write_text("\n\n")
    with pytest.raises(ConfigError, match="is empty"):
        read_transcripts(tmp_path / "empty")
    (tmp_path / "gbk").write_bytes("a.wav|ben|ZH|你好".encode("gbk"))
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        read_transcripts(tmp_path / "gbk")
    (tmp_path / "many").write_text("x\n" * 12)
    with pytest.raises(ConfigError, match="and 2 more"):
        read_transcripts(tmp_path / "many")


# Buckets

CASES = json.loads((GOLDEN / "bert_vits2" / "bucket_sampler.json").read_text())


@pytest.mark.parametrize("case", CASES["cases"], ids=lambda c: f"{c['replicas']}x{c['batch']}-{c['rank']}-{c['epoch']}")
def test_buckets_are_the_published_ones(case: dict[str, Any]) -> None:
    lengths = list(CASES["lengths"])
    sampler = BucketSampler(lengths, case["batch"], CASES["boundaries"], case["replicas"], case["rank"])
    assert list(sampler.batches(case["epoch"])) == case["batches"]
    assert list(sampler.batches(case["epoch"], 7)) == case["batches"][7:]
    assert len(sampler) == case["len"] and lengths == CASES["lengths"]


def test_what_buckets_leave_out_is_told() -> None:
    lengths = np.array([32, 33, 300, 301, 1000, 1001, 5000])
    sampler = BucketSampler(lengths, 2)
    assert (sampler.too_short, sampler.too_long, sampler.dropped) == (1, 2, 3)
    assert sampler.report() == (
        "4 of 7 utterances are between 32 and 1000 frames; left out are 1 of at most 32 frames and 2 of more than 1000"
    )
    assert {i for batch in sampler.batches(0) for i in batch} == {1, 2, 3, 4}
    with pytest.raises(ConfigError, match="there is no utterance to train on: 0 of 2 utterances"):
        BucketSampler([3, 4], 2)


def test_buckets_depend_on_epoch_and_seed_alone() -> None:
    lengths = np.random.default_rng(0).integers(40, 900, 60)
    sampler = BucketSampler(lengths, 4, seed=5)
    assert list(sampler.batches(3)) == list(BucketSampler(lengths, 4, seed=5).batches(3))
    assert list(sampler.batches(3)) != list(sampler.batches(4))
    assert list(sampler.batches(3)) != list(BucketSampler(lengths, 4, seed=7).batches(3))
    ordered = [i for batch in BucketSampler(lengths, 1, shuffle=False).batches(0) for i in batch]
    assert sorted(ordered) == list(range(60)) and ordered[:2] == np.flatnonzero(lengths <= 300)[:2].tolist()


def test_ranks_share_a_bucket_between_them() -> None:
    samplers = [BucketSampler([50] * 12, 2, replicas=3, rank=rank) for rank in range(3)]
    assert sorted(i for s in samplers for batch in s.batches(1) for i in batch) == list(range(12))


@pytest.mark.parametrize("boundaries", [(32,), (32, 32), (300, 32), (-1, 5), ()])
def test_boundaries_must_ascend(boundaries: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"bucket_boundaries is .* each larger than the one before"):
        BucketSampler([50], 1, boundaries)


def test_sizes_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match="batch_size is 0"):
        BucketSampler([50], 0)
    with pytest.raises(ConfigError, match="rank 2 of 2 processes does not exist"):
        BucketSampler([50], 1, BOUNDARIES, 2, 2)


# Recordings and spectrograms


def test_the_linear_spectrogram_is_the_published_one() -> None:
    golden = np.load(GOLDEN / "bert_vits2" / "linear_spectrogram.npz")
    found = linear_spectrogram(Path("x.wav"), golden["wav"], DATA).numpy()
    assert found.shape == (1025, len(golden["wav"]) // 512)
    np.testing.assert_allclose(found[:, :13], golden["spec"], rtol=0, atol=1e-5 * golden["spec"].max())


def test_recordings_that_cannot_be_trained_on(tmp_path: Path) -> None:
    import soundfile

    tone = np.zeros(3000, np.float32)
    write_wav(tmp_path / "slow.wav", tone, 16000)
    soundfile.write(tmp_path / "stereo.wav", np.stack([tone, tone], 1), 44100)
    write_wav(tmp_path / "empty.wav", tone[:0], 44100)
    (tmp_path / "text.wav").write_text("no sound")
    command = "Run `python -m training.bert_vits2.preprocess resample --in FOLDER --out FOLDER --rate 44100`"
    for name, message in {
        "slow": f"slow.wav is sampled at 16000 Hz; the model needs 44100 Hz. {command}",
        "stereo": f"stereo.wav has 2 channels; the model needs one. {command}",
        "empty": "empty.wav has no samples",
        "text": "text.wav is not a sound file that can be read",
        "absent": f"the recording {tmp_path / 'absent.wav'} is missing",
    }.items():
        with pytest.raises(ArtifactError) as caught:
            read_recording(tmp_path / f"{name}.wav", 44100)
        assert message in str(caught.value)
    with pytest.raises(ArtifactError, match=r"x.wav has 700 samples; a spectrogram needs more than 768"):
        linear_spectrogram(Path("x.wav"), tone[:700], DATA)


def test_the_cache_knows_its_parameters_and_its_recording(copied: list[Utterance]) -> None:
    wav = Path(copied[0].wav)
    assert make_spectrogram(wav, DATA) and not make_spectrogram(wav, DATA)
    expected = linear_spectrogram(wav, read_recording(wav, 44100), DATA)
    kept = cached_spectrogram(wav, DATA)
    assert kept is not None and torch.equal(kept, expected)
    for other in (replace(DATA, hop_length=256), replace(DATA, filter_length=1024, win_length=1024)):
        assert cached_spectrogram(wav, other) is None
    os.utime(wav, ns=(0, 12345))
    assert cached_spectrogram(wav, DATA) is None
    assert make_spectrogram(wav, DATA) and not make_spectrogram(wav, DATA)


def test_a_damaged_cache_is_made_again(copied: list[Utterance], caplog: pytest.LogCaptureFixture) -> None:
    wav = Path(copied[0].wav)
    make_spectrogram(wav, DATA)
    whole = cache_path(wav).read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], whole[:5000] + b"\0\1\2\3" + whole[5004:], b"no archive"):
        cache_path(wav).write_bytes(damaged)
        assert cached_spectrogram(wav, DATA) is None
        assert f"{cache_path(wav)} is damaged" in caplog.text
        caplog.clear()
    item = SpeechDataset(copied, DATA, bert=(), cache=True)[0]
    kept = cached_spectrogram(wav, DATA)
    assert kept is not None and torch.equal(item.spectrogram, kept)


def test_a_full_disk_costs_neither_training_nor_the_old_file(
    copied: list[Utterance], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    wav = Path(copied[0].wav)
    make_spectrogram(wav, DATA)
    before = cache_path(wav).read_bytes()
    os.utime(wav)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(EnvironmentProblem, match=rf"the disk is full: {cache_path(wav)} could not be written"):
        make_spectrogram(wav, DATA)
    assert SpeechDataset(copied, DATA, bert=(), cache=True)[0].spectrogram.shape[0] == 1025
    assert "no spectrogram cache: the disk is full" in caplog.text
    assert cache_path(wav).read_bytes() == before
    assert [p.name for p in wav.parent.glob("*.part")] == []


# Items


def test_an_item_is_what_the_text_encoder_is_given(corpus: list[Utterance]) -> None:
    dataset = SpeechDataset(corpus, DATA, bert=())
    before = [u.word2ph for u in dataset.utterances]
    for i, utterance in enumerate(corpus):
        item = dataset[i]
        count = 2 * len(utterance.phones) + 1
        assert item.phones.shape == item.tones.shape == item.languages.shape == (count,)
        assert set(item.phones[0::2].tolist()) == {0} == set(item.tones[0::2].tolist())
        language, start, tones = {"ZH": (0, 0, 6), "JP": (1, 6, 2), "EN": (2, 8, 4)}[utterance.language]
        assert set(item.languages[1::2].tolist()) == {language}
        assert (item.tones[1::2] - start).tolist() == list(utterance.tones) and max(utterance.tones) < tones
        assert [b.shape for b in item.bert] == [(1024, count)] * 3
        assert item.spectrogram.shape == (1025, dataset.lengths[i]) and len(item.wave) == 512 * dataset.lengths[i]
        assert item.speaker == {"anna": 0, "ben": 1}[utterance.speaker]
    dataset[0], dataset[0]
    assert [u.word2ph for u in dataset.utterances] == before


def test_blanks_and_speakers_are_optional(corpus: list[Utterance]) -> None:
    data = replace(DATA, add_blank=False, spk2id={}, n_speakers=0)
    item, blanked = SpeechDataset(corpus, data, bert=())[1], SpeechDataset(corpus, DATA, bert=())[1]
    assert item.phones.tolist() == blanked.phones[1::2].tolist() and item.speaker == 0


def test_features_are_read_or_filled(copied: list[Utterance], tmp_path: Path) -> None:
    ours = keep_bert(copied[0])
    theirs = torch.randn(1024, 2 * len(copied[1].phones) + 1)
    torch.save(theirs, published_path(Path(copied[1].wav)))
    dataset = SpeechDataset(copied, DATA, seed=3)
    assert np.array_equal(dataset[0].bert[0].numpy(), ours) and torch.equal(dataset[1].bert[0], theirs)
    first = dataset[4, 0]
    assert torch.equal(first.bert[1], dataset[4, 0].bert[1]) and not torch.equal(first.bert[1], dataset[5, 0].bert[1])
    assert not torch.equal(first.bert[1], first.bert[2]) and abs(float(first.bert[1].std()) - 1) < 0.05
    assert not torch.equal(first.bert[1], SpeechDataset(copied, DATA, seed=4)[4, 0].bert[1])
    zeros = SpeechDataset(copied, DATA, filler="zeros", bert=("EN",))
    assert not any(b.any() for b in zeros[0].bert)
    uniform = SpeechDataset(copied, DATA, filler="uniform", bert=())[0].bert[0]
    assert float(uniform.min()) >= 0 and float(uniform.max()) <= 1 and float(uniform.std()) > 0.2


def test_features_that_do_not_fit(copied: list[Utterance]) -> None:
    with pytest.raises(ArtifactError, match=r"zh0.bert.zh.npz is missing \(and zh0.bert.pt too\)") as caught:
        SpeechDataset(copied, DATA)
    assert "preprocess bert --list FILELIST --model ZH=FOLDER" in str(caught.value)
    for utterance in copied:
        keep_bert(utterance)
    dataset, path = SpeechDataset(copied, DATA), bert_path(Path(copied[0].wav), "ZH")
    keep_bert(copied[0], 5)
    with pytest.raises(ArtifactError, match=r"has features of shape \[1024, 5\]; the text needs \[1024, 25\]"):
        dataset[0]
    write_array(path, np.zeros((1024, 25), np.float32), {"text": "other", "word2ph": [25]})
    with pytest.raises(ArtifactError, match="was made from another text or word2ph than that of the filelist"):
        dataset[0]
    path.write_bytes(b"PK\3\4 torn")
    with pytest.raises(ArtifactError, match=r"zh0.bert.zh.npz is damaged"):
        dataset[0]
    path.unlink()
    published_path(Path(copied[0].wav)).write_bytes(b"torn")
    with pytest.raises(ArtifactError, match=r"zh0.bert.pt is damaged"):
        dataset[0]


def test_missing_and_wrong_files_are_told_before_training(copied: list[Utterance]) -> None:
    lost = replace(copied[0], wav="/nowhere/x.wav")
    odd = replace(copied[0], phones=("_", *["quack"] * (len(copied[0].phones) - 1)))
    write_wav(Path(copied[1].wav), np.zeros(9000), 22050)
    with pytest.raises(ArtifactError, match="the data is not complete") as caught:
        SpeechDataset([*copied, lost, odd], DATA, bert=())
    for text in ("zh1.wav is sampled at 22050 Hz", "the recording /nowhere/x.wav is missing", "zh0.wav: ", "'quack'"):
        assert text in str(caught.value)


def test_settings_that_leave_nothing(corpus: list[Utterance]) -> None:
    dataset = SpeechDataset(corpus, DATA, bert=(), phone_limits=(1, 14))
    assert len(dataset) + len(dataset.left_out) == len(corpus) and 0 < len(dataset) < len(corpus)
    assert "phones, the limits are 1 to 14" in dataset.left_out[0]
    with pytest.raises(ConfigError, match="none of 9 utterances has 1 to 2 phones"):
        SpeechDataset(corpus, DATA, bert=(), phone_limits=(1, 2))
    with pytest.raises(ConfigError, match=r"no id for speaker anna; .*spk2id has 1 speakers"):
        SpeechDataset(corpus, replace(DATA, spk2id={"ben": 0}), bert=())
    with pytest.raises(ConfigError, match="unknown BERT filler 'noise'"):
        SpeechDataset(corpus, DATA, bert=(), filler="noise")
    with pytest.raises(ConfigError, match=r"unknown BERT languages \['FR'\]"):
        SpeechDataset(corpus, DATA, bert=("FR",))


# Batches


def test_a_batch_is_sorted_and_padded_with_zeros(corpus: list[Utterance]) -> None:
    dataset = SpeechDataset(corpus, DATA, bert=())
    items = [dataset[i] for i in (0, 5, 2)]
    batch = collate(items)
    assert batch.frames.tolist() == sorted((i.spectrogram.shape[1] for i in items), reverse=True)
    for row, item in enumerate(sorted(items, key=lambda i: -i.spectrogram.shape[1])):
        phones, frames = len(item.phones), item.spectrogram.shape[1]
        assert batch.phone_lengths[row] == phones and batch.speaker[row] == item.speaker
        pairs = [(batch.phones, item.phones), (batch.tones, item.tones), (batch.languages, item.languages)]
        pairs += list(zip((batch.bert, batch.ja_bert, batch.en_bert), item.bert, strict=True))
        pairs += [(batch.spectrogram, item.spectrogram), (batch.wave, item.wave)]
        for padded, expected in pairs:
            assert torch.equal(padded[row, ..., : expected.shape[-1]], expected)
            assert not padded[row, ..., expected.shape[-1] :].any()
        assert batch.wave.shape[1] == 512 * batch.spectrogram.shape[2] and frames <= batch.spectrogram.shape[2]


@pytest.mark.parametrize("workers", [0, 1])
def test_epochs_resume_in_their_middle_and_leave_the_global_generators_alone(
    corpus: list[Utterance], workers: int
) -> None:
    dataset = SpeechDataset(corpus, DATA, bert=())
    epochs = Epochs(dataset, BucketSampler(dataset.lengths, 2), workers)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    whole = list(epochs.batches(2))
    interrupted = iter(epochs.batches(1))
    next(interrupted)
    rest = list(epochs.batches(2, 3))
    assert len(whole) == len(epochs) == 5 and len(rest) == 2
    for a, b in zip(whole[3:], rest, strict=True):
        assert all(torch.equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    assert torch.equal(torch.get_rng_state(), state)
    assert list(epochs.batches(2, 5)) == []


def test_arrays_are_absent_or_of_what_was_asked(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    assert read_array(path, {}) is None
    write_array(path, np.arange(3), {"a": 1, "b": (1, 2)})
    found = read_array(path, {"b": [1, 2]})
    assert found is not None and found.tolist() == [0, 1, 2]
    assert read_array(path, {"a": 2}) is None and read_array(path, {"c": None, "a": 1}) is not None
