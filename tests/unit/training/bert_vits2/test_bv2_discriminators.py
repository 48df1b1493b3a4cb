"""Discriminators of Bert-VITS2: published keys and numbers, WavLM frozen and at its own rate, what loading refuses."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from support.bert_vits2 import judges as tiny
from support.bert_vits2.tiny import FOLDER, arrays, peak_error
from torch import nn

from training.bert_vits2.config import SHRINKS
from training.bert_vits2.networks.duration_discriminator import DurationDiscriminator
from training.bert_vits2.networks.waveform_discriminators import MultiPeriodDiscriminator
from training.bert_vits2.networks.wavlm_discriminator import Resample, WavLM, WavLMDiscriminator, load_wavlm
from tritone.audio.resample import sinc_resample
from tritone.errors import CheckpointError, ConfigError
from tritone.nn.weight_norm import older_layout

GOLDEN = arrays("judges")


def full_size() -> dict[str, nn.Module]:
    with torch.device("meta"):
        return {
            "D_full": MultiPeriodDiscriminator(),
            "DUR_full": DurationDiscriminator(192, 192, 512),
            "DUR_tiny": DurationDiscriminator(8, 8, 12),
            "WD_full": WavLMDiscriminator(),
            "WD_tiny": WavLMDiscriminator(32, 4, 4),
        }


@pytest.mark.parametrize("name", ["D_full", "DUR_full", "DUR_tiny", "WD_full", "WD_tiny"])
def test_keys_and_shapes_are_the_published_ones(name: str) -> None:
    expected = json.loads(gzip.decompress((FOLDER / "judges_manifests.json.gz").read_bytes()))[name]
    found = {key: list(value.shape) for key, value in older_layout(full_size()[name].state_dict()).items()}
    assert found == expected


@pytest.mark.parametrize("shrink", SHRINKS)
def test_narrower_judges_differ_in_width_alone(shrink: int) -> None:
    with torch.device("meta"):
        judges, published = MultiPeriodDiscriminator(shrink), MultiPeriodDiscriminator()
        wave = torch.zeros(2, 4096)
        scores, layers = judges(wave)
        wanted_scores, wanted_layers = published(wave)
    assert [s.shape for s in scores] == [s.shape for s in wanted_scores]
    for made, expected in zip(layers, wanted_layers, strict=True):
        sizes = [(layer.shape[1] * shrink, *layer.shape[2:]) for layer in made[:-1]]
        assert sizes == [tuple(layer.shape[1:]) for layer in expected[:-1]]


def test_scores_and_layers_of_waves() -> None:
    judge = tiny.waves()
    with torch.no_grad():
        scores, layers = judge(GOLDEN["wave"])
        alone, _ = judge(GOLDEN["wave"][1:])
    assert len(scores) == 6 and [len(some) for some in layers] == [7, 6, 6, 6, 6, 6]
    for number, (score, some) in enumerate(zip(scores, layers, strict=True)):
        assert peak_error(score, GOLDEN[f"d_r{number}"]) < 1e-5
        assert peak_error(alone[number], GOLDEN[f"d_r{number}"][1:]) < 1e-5
        for layer, hidden in enumerate(some):
            expected = float(GOLDEN[f"fmap_r{number}_{layer}_sum"])
            assert float(hidden.double().sum()) == pytest.approx(expected, rel=1e-4, abs=1e-2)


@pytest.mark.parametrize("layout", ["lstm", "conv"])
def test_durations_are_judged_phone_by_phone_and_only_they_are_moved(layout: str) -> None:
    judge = DurationDiscriminator(8, 8, 12, layout=layout).eval()
    x, speaker = torch.randn(2, 8, 5, requires_grad=True), torch.randn(2, 12, 1, requires_grad=True)
    mask = torch.tensor([[[1.0] * 5], [[1.0] * 3 + [0.0] * 2]])
    first, second = (torch.randn(2, 1, 5, requires_grad=True) for _ in range(2))
    found = judge(x, mask, [first, second], speaker)
    assert [tuple(p.shape) for p in found] == [(2, 5, 1)] * 2
    assert all(((p > 0) & (p < 1)).all() for p in found)
    torch.testing.assert_close(found[1], judge(x, mask, [second], speaker)[0])
    found[1].sum().backward()
    assert x.grad is None and speaker.grad is None and first.grad is None
    assert second.grad is not None and second.grad.abs().sum() > 0


def test_the_layout_of_2_0_ignores_padding() -> None:
    judge = DurationDiscriminator(8, 8, 0, layout="conv").eval()
    x, duration = torch.randn(1, 8, 6), torch.randn(1, 1, 6)
    mask = torch.tensor([[[1.0] * 4 + [0.0] * 2]])
    ragged = judge(x, mask, [duration * mask], None)[0][:, :3]
    torch.testing.assert_close(ragged, judge(x[..., :4], mask[..., :4], [duration[..., :4]], None)[0][:, :3])


def test_unknown_layouts_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"'lstm' \(2.3\) or 'conv' \(2.0 to 2.2\), not 'gru'"):
        DurationDiscriminator(8, 8, 12, layout="gru")


def test_hidden_states_are_the_published_ones() -> None:
    with torch.no_grad():
        states = WavLM(tiny.wavlm_model(), 16000)(GOLDEN["wavlm_wave"])
    assert peak_error(states, GOLDEN["wavlm_states"]) < 1e-5


@pytest.mark.parametrize("rows", [1, 2])
def test_wavlm_hears_44100_hz_and_learns_nothing(rows: int) -> None:
    wavlm = tiny.wavlm().train()
    assert not wavlm.model.training and not any(p.requires_grad for p in wavlm.parameters())
    wave = (0.1 * torch.randn(rows, 16384)).requires_grad_()
    states = wavlm(wave)
    assert states.shape == (rows, 4, 18, 32)
    torch.testing.assert_close(states, wavlm(wave))  # no dropout
    states.square().mean().backward()
    assert wave.grad is not None and torch.isfinite(wave.grad).all() and wave.grad.abs().sum() > 0


def test_waves_too_short_for_wavlm_are_refused() -> None:
    assert tiny.wavlm()(torch.zeros(1, 1103)).shape == (1, 4, 1, 32)
    with pytest.raises(ConfigError, match=r"slices of 1024 samples are 372 at WavLM's rate.* raise train.segment_size"):
        tiny.wavlm()(torch.zeros(1, 1024))


@pytest.mark.parametrize("rows", [1, 2])
def test_hidden_states_are_scored_frame_by_frame(rows: int) -> None:
    states = torch.randn(rows, 4, 18, 32)
    judge = tiny.wavlm_judge()
    scores = judge(states)
    assert scores.shape == (rows, 18)
    stacked = torch.cat([states[:, layer].transpose(1, 2) for layer in range(4)], dim=1)
    torch.testing.assert_close(judge.pre(stacked), judge.pre(states.mT.flatten(1, 2)))


def test_resampling_is_the_published_one() -> None:
    golden = arrays("mel")
    found = Resample(44100, 16000)(golden["wave"])
    assert peak_error(found[:, :3900], golden["resampled"]) < 1e-5
    assert found.shape[1] == 4000
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(Resample(44100, 16000)(golden["wave"]), found)
    for rate, samples in [(44100, 5000), (24000, 4801), (16000, 777), (8000, 300)]:
        wave = np.random.default_rng(1).normal(size=samples).astype(np.float32)
        expected = torch.from_numpy(sinc_resample(wave, rate, 16000))[None]
        torch.testing.assert_close(Resample(rate, 16000)(torch.from_numpy(wave)[None]), expected, rtol=1e-4, atol=1e-5)


def test_wavlm_is_read_from_a_folder(tmp_path: Path) -> None:
    model = tiny.wavlm_model()
    model.save_pretrained(tmp_path)
    wave = 0.1 * torch.randn(1, 8000)
    with torch.no_grad():
        torch.testing.assert_close(load_wavlm(tmp_path, tiny.RATE)(wave), tiny.wavlm()(wave))


def test_folders_without_a_wavlm_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"no WavLM in .*nowhere: config.json is missing. Download microsoft/wavlm"
    ):
        load_wavlm(tmp_path / "nowhere", tiny.RATE)
    tiny.wavlm_model().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 4}))
    with pytest.raises(CheckpointError, match=r"lacks \d+ of WavLM's weights: encoder.layers.3"):
        load_wavlm(tmp_path, tiny.RATE)
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "bert"}))
    with pytest.raises(CheckpointError, match="has a 'bert' model, not a WavLM"):
        load_wavlm(tmp_path, tiny.RATE)
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(CheckpointError, match="cannot be read as a WavLM"):
        load_wavlm(tmp_path, tiny.RATE)
