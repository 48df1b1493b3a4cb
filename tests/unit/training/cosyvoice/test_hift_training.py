"""The parts of the vocoder's training: f0 targets, spectral losses, discriminators, crops, and a whole tiny run."""

from __future__ import annotations

import argparse
import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from training.core.discriminators import Discriminators
from training.core.loop import train
from training.core.losses import (
    MelSpectrogram,
    discriminator_loss,
    feature_loss,
    generator_loss,
    stft_loss,
)
from training.corpus import crops
from training.corpus.data import Corpus
from training.corpus.f0 import track_f0
from training.cosyvoice import vocoder as recipe
from tritone.audio.mel import MelConfig, mel_spectrogram
from tritone.audio.wav import read_wav, write_wav

MEL = MelConfig()


def voice(f0: np.ndarray, rate: int) -> np.ndarray:
    """Eleven harmonics of an f0 given per sample, 0 where silent."""
    phase = 2 * np.pi * np.cumsum(f0) / rate
    return np.where(f0 > 0, sum(np.sin(k * phase) / k for k in range(1, 12)) * 0.1, 0.0)


def test_f0_of_a_known_contour() -> None:
    rate, hop = 12000, 240
    time = np.arange(2 * rate) / rate
    f0 = 150 + 80 * np.sin(2 * np.pi * 1.2 * time)
    f0[rate : rate + 3600] = 0.0
    wave = voice(f0, rate)
    wave[rate : rate + 3600] = np.random.default_rng(0).normal(0, 0.02, 3600)
    found = track_f0(np.stack([wave, 0 * wave]), rate, hop)
    wanted = f0[hop // 2 :: hop]
    inner = np.convolve(wanted > 0, np.ones(3), "same") % 3 == 0  # not beside a change of voicing
    assert ((found[0] > 0) == (wanted > 0))[inner].mean() > 0.97
    both = (found[0] > 0) & (wanted > 0) & inner
    assert np.abs(found[0] / np.maximum(wanted, 1) - 1)[both].max() < 0.04
    assert (found[1] == 0).all()


def test_f0_of_each_row_is_its_own() -> None:
    waves = np.stack([voice(np.full(6000, hz), 12000) for hz in (80.0, 133.0, 210.0, 320.0)])
    found = track_f0(waves, 12000, 240)
    assert found.shape == (4, 25) and found.dtype == np.float32
    assert np.median(found, axis=1) == pytest.approx([80.0, 133.0, 210.0, 320.0], rel=0.01)


def test_torch_mel_equals_the_shared_one() -> None:
    wave = np.random.default_rng(0).normal(0, 0.1, 480 * 30).astype(np.float32)
    wanted = mel_spectrogram(wave, MEL)
    found = MelSpectrogram(MEL)(torch.from_numpy(wave)[None])[0].numpy()
    assert np.abs(found - wanted).max() < 1e-3
    middle = MelSpectrogram(MEL)(torch.from_numpy(wave[480 * 4 - 720 : 480 * 20 + 720])[None], mirror=False)[0].numpy()
    assert np.abs(middle - wanted[:, 4:20]).max() < 1e-3


def test_stft_loss_is_zero_for_equal_and_grows_with_distance() -> None:
    wave = torch.randn(2, 4800, generator=torch.Generator().manual_seed(0))
    assert float(stft_loss(wave, wave)) == 0
    assert 0 < float(stft_loss(1.1 * wave, wave)) < float(stft_loss(2 * wave, wave))
    silent = torch.zeros(2, 4800, requires_grad=True)
    stft_loss(silent, wave).backward()
    assert silent.grad is not None and torch.isfinite(silent.grad).all()


def test_adversarial_losses() -> None:
    one, zero = torch.ones(3, 4), torch.zeros(3, 4)
    assert float(discriminator_loss([one, one], [zero, zero])) == 0
    assert float(discriminator_loss([zero], [one])) == 2
    assert float(generator_loss([one])) == 0 and float(generator_loss([zero, zero])) == 2
    assert float(feature_loss([[one, one]], [[one, zero]])) == 1


def test_discriminators_judge_every_period_and_resolution() -> None:
    torch.manual_seed(0)
    judges = Discriminators(2, 2)
    wave = torch.randn(2, 4801, requires_grad=True)
    scores, hidden = judges(wave)
    assert len(scores) == len(hidden) == len(judges.periods) + len(judges.spectrograms)
    alone, _ = judges(wave[:1])
    for together, single in zip(scores, alone, strict=True):
        assert torch.allclose(together[:1], single, atol=1e-5)
        gradient = torch.autograd.grad(together.sum(), wave, retain_graph=True)[0]
        assert float(gradient.abs().sum()) > 0


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Six recordings of two synthetic voices, at 16 kHz, with a manifest."""
    (tmp_path / "wavs").mkdir()
    lines = []
    for number in range(6):
        speaker = ("low", "high")[number % 2]
        f0 = np.full(16000 + 320 * number, 100.0 if speaker == "low" else 190.0)
        f0[:3000] = 0.0
        write_wav(tmp_path / f"wavs/{number}.wav", voice(f0, 16000), 16000)
        lines.append({"id": str(number), "speaker": speaker, "text": "a", "phones": [], "samples": len(f0),
                      "file": f"wavs/{number}.wav"})  # fmt: skip
    (tmp_path / "manifest.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    return tmp_path


def test_a_crop_is_what_the_whole_recording_says(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """mel and f0 of a crop equal those of the whole at the same place, up to the resampler's edges."""
    rows, frames = np.array([0, 1]), 12
    start = 9
    monkeypatch.setattr(crops, "piece", lambda path, count, rng: whole(path)[480 * start : 480 * (start + count)])

    def whole(path: Path) -> np.ndarray:
        return read_wav(path, 24000)

    found = crops.crop(Corpus(corpus), rows, frames, np.random.default_rng(0), MelSpectrogram(MEL), torch.device("cpu"))
    for row in rows:
        wave = whole(corpus / f"wavs/{row}.wav")
        first = start + crops.MARGIN
        assert np.abs(found.mel[row].numpy() - mel_spectrogram(wave, MEL)[:, first : first + frames]).max() < 1e-3
        assert np.array_equal(found.wave[row].numpy(), wave[480 * first : 480 * (first + frames)])
        assert found.f0[row, -4:].numpy() == pytest.approx([100.0, 190.0][row], rel=0.01)


def test_a_piece_is_read_at_its_place_only(corpus: Path) -> None:
    whole = read_wav(corpus / "wavs/3.wav", 24000)
    piece = crops.piece(corpus / "wavs/3.wav", 20, np.random.default_rng(3))
    assert piece.shape == (9600,)
    grid = np.array([np.abs(whole[480 * i : 480 * i + 9600] - piece)[480:-480].max() for i in range(33)])
    assert grid.min() < 1e-3


def options(corpus: Path, **changed: object) -> argparse.Namespace:
    given = {"data": corpus, "device": torch.device("cpu"), "smoke": True, "steps": 6, "batch": 2, "frames": 10,
             "spectral_steps": 2, "seed": 0, "rate": recipe.RATE, "start": None}  # fmt: skip
    return argparse.Namespace(**(given | changed))


def test_a_tiny_run_trains_both_networks_and_resumes_exactly(corpus: Path, tmp_path: Path) -> None:
    """Six steps, most of them adversarial, equal four steps, an interruption, and two more."""

    def run(out: str, interrupted: int | None = None) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        made = recipe.build(options(corpus))

        def step(batch: crops.Crop, number: int) -> dict[str, float]:
            if number == interrupted:
                os.kill(os.getpid(), signal.SIGINT)
            return made.step(batch, number)

        done = train(replace(made, step=step), tmp_path / out, steps=6, eval_every=3, save_every=3)
        assert done == (6 if interrupted is None else interrupted + 1)
        return {f"{n}.{k}": v.clone() for n, net in made.networks.items() for k, v in net.state_dict().items()}

    torch.manual_seed(0)
    fresh = recipe.build(options(corpus)).networks
    whole, _, parts = run("whole"), run("parts", interrupted=3), run("parts")
    for name, network in fresh.items():
        changed = [not torch.equal(v, whole[f"{name}.{k}"]) for k, v in network.state_dict().items()]
        assert np.mean(changed) > 0.9, name
    assert all(torch.equal(value, parts[key]) for key, value in whole.items())
    loaded = recipe.trained(tmp_path / "whole", smoke=True).state_dict()
    assert loaded.keys() == fresh["generator"].state_dict().keys()
    continued = recipe.build(options(corpus, start=tmp_path / "whole")).networks
    for name, network in continued.items():
        assert all(torch.equal(v, whole[f"{name}.{k}"]) for k, v in network.state_dict().items()), name


def test_training_lowers_the_distance(corpus: Path) -> None:
    torch.manual_seed(0)
    run = recipe.build(options(corpus, steps=60, spectral_steps=60))
    losses = []
    epoch = 0
    while len(losses) < 40:
        losses += [run.step(batch, len(losses))["mel"] for batch in run.batches(epoch, 0)]
        epoch += 1
    assert np.mean(losses[-5:]) < 0.75 * np.mean(losses[:5])
