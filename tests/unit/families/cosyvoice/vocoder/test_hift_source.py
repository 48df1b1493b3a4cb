"""The harmonic source against the published numbers and against itself cut in other places."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.golden_weights import golden, tiny_state

from tritone.families.cosyvoice.config.common import HiftConfig
from tritone.families.cosyvoice.vocoder.source import InterpolatedSource, harmonics

CONFIG = HiftConfig()
QUIET = HiftConfig(nsf_sigma=0.0)


def contour(frames: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    f0 = 120 + 60 * np.sin(np.arange(frames) / 9) + rng.normal(0, 2, frames)
    f0[rng.random(frames) < 0.2] = 0.0
    return f0.astype(np.float32)


def mix(sines: np.ndarray) -> np.ndarray:
    state = tiny_state("hift")
    weight, bias = state["m_source.l_linear.weight"].numpy(), state["m_source.l_linear.bias"].numpy()
    return np.tanh(weight @ sines + bias)


class Replay:
    """Stands in for the noise generator and gives out recorded noise, `[frames, hop, harmonics]`."""

    def __init__(self, noise: np.ndarray) -> None:
        self.rest = noise

    def standard_normal(self, shape: tuple[int, ...], dtype: type) -> np.ndarray:
        taken, self.rest = self.rest[: shape[0]], self.rest[shape[0] :]
        assert taken.shape == shape
        return taken.astype(dtype)


def test_source_equals_published_with_its_noise() -> None:
    """Equal with the published noise replayed, whatever start phases it drew: they do nothing."""
    numbers = golden("hift")
    torch.manual_seed(1234)
    start = torch.rand(1, 9)
    assert np.array_equal(start[:, 1:].numpy(), numbers["draw_rand_ini"][:, 1:])
    # The published noise was drawn into a transposed tensor, for which torch has an order of its own.
    noise = torch.randn_like(torch.empty(9, 64 * CONFIG.hop).T).reshape(64, CONFIG.hop, 9).numpy()

    f0 = numbers["f0"][0]
    voiced = f0 > CONFIG.nsf_voiced_threshold
    assert 0 < voiced.mean() < 1  # otherwise this test would show half of it
    source = InterpolatedSource(CONFIG, seed=0)
    source._noise = Replay(noise)  # type: ignore[assignment]
    found = mix(np.concatenate([source.push(f0), source.finish()], axis=1))[0]
    wanted = numbers["s"][0, 0]
    # The published phase grows unwrapped in float32, which costs it 5e-5 by the end of this second.
    assert np.abs(found - wanted).max() < 5e-4 * np.abs(wanted).max()


def test_phase_is_interpolated_between_frame_centres() -> None:
    f0 = np.array([100.0, 150.0, 130.0])
    sines = harmonics(f0, QUIET, seed=0)
    summed = np.cumsum(f0) / CONFIG.sample_rate * CONFIG.hop
    position = np.clip((np.arange(3 * CONFIG.hop) + 0.5) / CONFIG.hop - 0.5, 0, 2)
    for multiple in (1, 9):
        phase = 2 * np.pi * multiple * np.interp(position, np.arange(3), summed)
        assert np.abs(sines[multiple - 1] - CONFIG.nsf_alpha * np.sin(phase)).max() < 1e-5


@pytest.mark.parametrize("cuts", [[1], [1, 2, 3], [10, 10, 37], [49], list(range(1, 50)), [0, 50]])
def test_cutting_elsewhere_changes_nothing(cuts: list[int]) -> None:
    f0 = contour(50)
    whole = harmonics(f0, CONFIG, seed=7)
    source = InterpolatedSource(CONFIG, seed=7)
    pieces = [source.push(piece) for piece in np.split(f0, cuts)]
    assert sum(piece.shape[1] for piece in pieces) == 49 * CONFIG.hop
    assert np.array_equal(np.concatenate([*pieces, source.finish()], axis=1), whole)
    assert whole.dtype == np.float32 and whole.shape == (9, 50 * CONFIG.hop)


def test_seed_decides_the_noise() -> None:
    f0 = contour(5)
    assert np.array_equal(harmonics(f0, CONFIG, 1), harmonics(f0, CONFIG, 1))
    assert not np.array_equal(harmonics(f0, CONFIG, 1), harmonics(f0, CONFIG, 2))


def test_unvoiced_frames_are_noise_of_a_third_of_the_amplitude() -> None:
    noise = harmonics(np.zeros(20, dtype=np.float32), CONFIG, seed=0)
    assert noise.std() == pytest.approx(CONFIG.nsf_alpha / 3, rel=0.02)


def test_phase_stays_exact_after_an_hour() -> None:
    """The last second of an hour at 200 Hz repeats every 120 samples as exactly as the first."""
    source = InterpolatedSource(QUIET, seed=0)
    source._phase = source._phase + 3600 * 200.0 * np.arange(1, 10)
    later = source.push(np.full(50, 200.0))
    assert np.abs(later - harmonics(np.full(50, 200.0), QUIET, 0)[:, : later.shape[1]]).max() < 1e-5


def test_nothing_in_nothing_out() -> None:
    source = InterpolatedSource(CONFIG, seed=0)
    assert source.push(np.zeros(0)).shape == (9, 0) and source.finish().shape == (9, 0)
    with pytest.raises(ValueError, match=r"f0 of shape \[frames\], got \[1, 4\]"):
        source.push(np.zeros((1, 4)))
