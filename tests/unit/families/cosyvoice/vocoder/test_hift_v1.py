"""The v1 vocoder against the published implementation's numbers, and its excitation cut in other places."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from support.golden_weights import golden, tiny_state

from tritone.families.cosyvoice.published import V1
from tritone.families.cosyvoice.vocoder.hift import Hift
from tritone.families.cosyvoice.vocoder.receptive_field import context_frames
from tritone.families.cosyvoice.vocoder.source import RunningSource, harmonic_source, harmonics

TINY = dataclasses.replace(V1.hift, base_channels=32, f0_channels=32)
QUIET = dataclasses.replace(TINY, nsf_sigma=0.0)


@pytest.fixture(scope="module")
def tiny() -> Hift:
    network = Hift(TINY)
    network.load_state_dict(tiny_state("hift", "v1"))
    return network.eval()


@pytest.fixture(scope="module")
def numbers() -> dict[str, torch.Tensor]:
    return {key: torch.from_numpy(value) for key, value in golden("hift", "v1").items()}


def relative(found: torch.Tensor, wanted: torch.Tensor) -> float:
    assert found.shape == wanted.shape
    return float((found - wanted).abs().max() / wanted.abs().max())


@pytest.mark.parametrize(("mel", "source", "wave"), [("mel", "s", "wav"), ("mel2", "s2", "wav2")])
@torch.no_grad()
def test_decode_equals_published(
    tiny: Hift, numbers: dict[str, torch.Tensor], mel: str, source: str, wave: str
) -> None:
    frames = torch.tensor([numbers[mel].shape[2]])
    assert relative(tiny.decode(numbers[mel], frames, numbers[source]), numbers[wave]) < 1e-4
    assert relative(tiny.decode(numbers[mel], None, numbers[source]), numbers[wave]) < 1e-4


@torch.no_grad()
def test_f0_equals_published(tiny: Hift, numbers: dict[str, torch.Tensor]) -> None:
    assert relative(tiny.f0_predictor(numbers["mel"], torch.tensor([64])), numbers["f0"]) < 1e-4


@torch.no_grad()
def test_ragged_batch_and_windows_give_what_each_gives_alone(tiny: Hift, numbers: dict[str, torch.Tensor]) -> None:
    lengths, hop, context = [64, 7, 33], TINY.hop, context_frames(TINY)
    assert hop == 256
    mel, source = numbers["mel"].repeat(3, 1, 1) + 5.0, numbers["s"].repeat(3, 1, 1)
    wave = tiny.decode(mel, torch.tensor(lengths), source)
    for row, frames in enumerate(lengths):
        alone = tiny.decode(mel[row : row + 1, :, :frames], None, source[row : row + 1, :, : hop * frames])
        assert (wave[row, : hop * frames] - alone[0]).abs().max() < 1e-5
        assert wave[row, hop * frames :].abs().sum() == 0
    low, high = 37 - context, min(64, 50 + context)
    assert low > 0
    window = tiny.decode(mel[:1, :, low:high], None, source[:1, :, hop * low : hop * high])
    assert (window[:, hop * context : hop * (context + 13)] - wave[:1, hop * 37 : hop * 50]).abs().max() < 1e-5


class Replay:
    """Stands in for the noise generator and gives out recorded numbers."""

    def __init__(self, start: np.ndarray, noise: np.ndarray) -> None:
        self.start, self.noise = start, noise

    def uniform(self, low: float, high: float, shape: tuple[int, ...]) -> np.ndarray:
        assert (low, high, shape) == (-0.5, 0.5, self.start.shape)
        return self.start.copy()

    def standard_normal(self, shape: tuple[int, ...], dtype: type) -> np.ndarray:
        assert shape == self.noise.shape
        return self.noise.astype(dtype)


def test_source_equals_published_with_its_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal with the published start phases and noise replayed."""
    known = golden("hift", "v1")
    torch.manual_seed(1234)
    start = torch.distributions.Uniform(-np.pi, np.pi).sample((1, 9, 1)).numpy()
    noise = torch.randn(1, 9, 64 * TINY.hop).numpy()
    np.testing.assert_array_equal(start[0, 1:], known["draw_phase"][0, 1:])
    np.testing.assert_array_equal(noise[:, :, :64], known["draw_noise_head"])
    replay = Replay(start[:, :, 0] / (2 * np.pi), noise[0].T.reshape(64, TINY.hop, 9))
    monkeypatch.setattr(np.random, "Generator", lambda _: replay)
    f0 = known["f0"][0]
    assert 0 < (f0 > TINY.nsf_voiced_threshold).mean() < 1  # otherwise this test would show half of it
    sines = RunningSource(TINY, seed=0).push(f0)
    state = tiny_state("hift", "v1")
    found = np.tanh(state["m_source.l_linear.weight"].numpy() @ sines + state["m_source.l_linear.bias"].numpy())[0]
    wanted = known["s"][0, 0]
    assert np.abs(found - wanted).max() < 1e-4 * np.abs(wanted).max()


def test_phase_runs_from_sample_to_sample() -> None:
    f0 = np.array([100.0, 150.0, 130.0])
    sines = harmonics(f0, QUIET, seed=0)
    phase = 2 * np.pi * np.cumsum(np.repeat(f0, TINY.hop)) / TINY.sample_rate
    assert np.abs(sines[0] - TINY.nsf_alpha * np.sin(phase)).max() < 1e-5
    shift = np.angle(np.exp(1j * (np.arcsin(sines[3] / TINY.nsf_alpha) - np.arcsin(np.sin(4 * phase))))).std()
    assert shift > 0.1  # a harmonic does not start where the fundamental does


@pytest.mark.parametrize("cuts", [[1], [10, 10, 37], list(range(1, 50)), [0, 50]])
def test_cutting_elsewhere_changes_nothing(cuts: list[int]) -> None:
    rng = np.random.default_rng(0)
    f0 = np.where(rng.random(50) < 0.2, 0, 120 + 60 * rng.random(50)).astype(np.float32)
    source = harmonic_source(TINY, seed=7)
    pieces = [source.push(piece) for piece in np.split(f0, cuts)]
    whole = harmonics(f0, TINY, seed=7)
    assert np.array_equal(np.concatenate([*pieces, source.finish()], axis=1), whole)
    assert whole.dtype == np.float32 and whole.shape == (9, 50 * TINY.hop)
    assert not np.array_equal(harmonics(f0, TINY, seed=8), whole)


def test_unvoiced_frames_are_noise_of_a_third_of_the_amplitude() -> None:
    assert harmonics(np.zeros(20), TINY, seed=0).std() == pytest.approx(TINY.nsf_alpha / 3, rel=0.02)
