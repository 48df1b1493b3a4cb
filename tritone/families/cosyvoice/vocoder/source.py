"""The excitation of the vocoder: harmonics of f0 with noise, computed frame by frame, however the input is cut.

v1 integrates phase sample by sample from random start phases. v2 integrates it once per frame and interpolates it
linearly between the centres of frames; before the first and after the last centre it is constant. v3 keeps it constant
for a frame. (In the published code of v2 and v3 the random start phase falls between the two samples that its
downsampling reads; it has no effect and is left out here.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from tritone.families.cosyvoice.config.common import HiftConfig
from tritone.families.cosyvoice.flow.noise import PublishedUniforms


class Source(Protocol):
    """Turns f0 into the harmonics of one utterance, fed in order and in any pieces."""

    def push(self, f0: np.ndarray) -> np.ndarray:
        """Return the harmonics `[nb_harmonics + 1, hop * frames]` of every frame now determined.

        Args:
            f0: `[frames]` in Hz; at or below the voicing threshold the frame is noise.
        """
        ...

    def finish(self) -> np.ndarray:
        """Return the harmonics of the frames still held, `[nb_harmonics + 1, hop * frames]`."""
        ...


class InterpolatedSource:
    """The source of v2: phase is interpolated between frames.

    The second half of a frame needs the next frame's f0, so `push` returns all frames but the newest and `finish`
    the last one. Noise is drawn in frame order from a generator of the seed; phase is float64.
    """

    def __init__(self, config: HiftConfig, seed: int) -> None:
        self._config = config
        self._multiples = np.arange(1, config.nb_harmonics + 2, dtype=np.float64)
        self._noise = np.random.Generator(np.random.Philox(seed))
        self._started = False
        self._phase = np.zeros((1, len(self._multiples)))
        # The newest frame waits here until the next one is known.
        self._f0 = np.zeros(0, dtype=np.float32)
        self._rates = np.zeros((0, len(self._multiples)))
        self._centres = np.zeros((0, len(self._multiples)))

    def push(self, f0: np.ndarray) -> np.ndarray:
        """Return the harmonics `[nb_harmonics + 1, hop * frames]` of all frames but the newest, f0 `[frames]` in Hz."""
        f0 = _frames(f0)
        # Cycles per sample, modulo 1: whole cycles would change the interpolated phase, though not its sine.
        rates = f0.astype(np.float64)[:, None] * self._multiples / self._config.sample_rate % 1.0
        # Left unwrapped and summed in one order, so that cutting the input elsewhere cannot change a bit.
        centres = np.cumsum(np.concatenate([self._phase, self._config.hop * rates]), axis=0)
        self._phase = centres[-1:]
        f0 = np.concatenate([self._f0, f0])
        rates = np.concatenate([self._rates, rates])
        centres = np.concatenate([self._centres, centres[1:]])
        self._f0, self._rates, self._centres = f0[-1:], rates[-1:], centres[-1:]
        return self._render(f0[:-1], centres[:-1], rates[:-1], rates[1:])

    def finish(self) -> np.ndarray:
        """Return the harmonics of the last frame, `[nb_harmonics + 1, hop]`, or of no frame if none was pushed."""
        last = self._render(self._f0, self._centres, self._rates, np.zeros_like(self._rates))
        self._f0, self._rates, self._centres = self._f0[:0], self._rates[:0], self._centres[:0]
        return last

    def _render(self, f0: np.ndarray, centres: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Return harmonics of frames with the phase `centres` (cycles) at their centres and these slopes around it."""
        if len(f0) and not self._started:
            left = np.concatenate([np.zeros_like(left[:1]), left[1:]])
            self._started = True
        hop, count = self._config.hop, len(self._multiples)
        noise = self._noise.standard_normal((len(f0), hop, count), dtype=np.float32)
        offset = np.arange(hop)[:, None] + 0.5 - hop / 2
        cycles = (centres[:, None] + offset * np.where(offset < 0, left[:, None], right[:, None])) % 1.0
        return np.ascontiguousarray(excitation(cycles, f0, noise, self._config).reshape(-1, count).T)


class SteppedSource:
    """The source of v3: phase is constant within a frame, and no frame waits for the next.

    Noise is uniform in 0..1, from the published table, and the same in every utterance.
    """

    def __init__(self, config: HiftConfig) -> None:
        self._config = config
        self._multiples = np.arange(1, config.nb_harmonics + 2, dtype=np.float64)
        self._noise = PublishedUniforms(config.noise_offset)
        self._phase = np.zeros((1, len(self._multiples)))

    def push(self, f0: np.ndarray) -> np.ndarray:
        """Return the harmonics `[nb_harmonics + 1, hop * frames]` of these frames, f0 `[frames]` in Hz."""
        f0 = _frames(f0)
        hop, count = self._config.hop, len(self._multiples)
        rates = f0.astype(np.float64)[:, None] * self._multiples / self._config.sample_rate % 1.0
        # Left unwrapped and summed in one order, so that cutting the input elsewhere cannot change a bit.
        phases = np.cumsum(np.concatenate([self._phase, hop * rates]), axis=0)
        self._phase = phases[-1:]
        cycles = np.broadcast_to((phases[1:] % 1.0)[:, None], (len(f0), hop, count))
        mixed = excitation(cycles, f0, self._noise.take(len(f0), hop, count), self._config)
        return np.ascontiguousarray(mixed.reshape(-1, count).T)

    def finish(self) -> np.ndarray:
        """Return no frames, `[nb_harmonics + 1, 0]`: `push` has returned all."""
        return np.zeros((len(self._multiples), 0), np.float32)


class RunningSource:
    """The source of v1: f0 is constant within a frame, and no frame waits for the next.

    All harmonics but the fundamental start at a random phase. Start phases and noise are drawn from a generator of the
    seed; phase is float64.
    """

    def __init__(self, config: HiftConfig, seed: int) -> None:
        self._config = config
        self._multiples = np.arange(1, config.nb_harmonics + 2, dtype=np.float64)
        self._noise = np.random.Generator(np.random.Philox(seed))
        self._phase = self._noise.uniform(-0.5, 0.5, (1, len(self._multiples)))
        self._phase[0, 0] = 0.0

    def push(self, f0: np.ndarray) -> np.ndarray:
        """Return the harmonics `[nb_harmonics + 1, hop * frames]` of these frames, f0 `[frames]` in Hz."""
        f0 = _frames(f0)
        hop, count = self._config.hop, len(self._multiples)
        rates = f0.astype(np.float64)[:, None] * self._multiples / self._config.sample_rate
        # Summed in one order, so that cutting the input elsewhere cannot change a bit.
        phases = np.cumsum(np.concatenate([self._phase, hop * rates]), axis=0)
        self._phase = phases[-1:]
        cycles = (phases[:-1, None] + np.arange(1, hop + 1)[:, None] * rates[:, None]) % 1.0
        noise = self._noise.standard_normal((len(f0), hop, count), dtype=np.float32)
        return np.ascontiguousarray(excitation(cycles, f0, noise, self._config).reshape(-1, count).T)

    def finish(self) -> np.ndarray:
        """Return no frames, `[nb_harmonics + 1, 0]`: `push` has returned all."""
        return np.zeros((len(self._multiples), 0), np.float32)


def _frames(f0: np.ndarray) -> np.ndarray:
    """Return f0 as float32 `[frames]`; ValueError for another rank."""
    f0 = np.asarray(f0, dtype=np.float32)
    if f0.ndim != 1:
        raise ValueError(f"push needs f0 of shape [frames], got {list(f0.shape)}")
    return f0


def excitation(cycles: np.ndarray, f0: np.ndarray, noise: np.ndarray, config: HiftConfig) -> np.ndarray:
    """Return sines with a little noise in voiced frames, noise in the others, `[frames, hop, harmonics]` float32.

    Args:
        cycles: phase in cycles within 0..1; noise: of unit size. Both `[frames, hop, harmonics]`.
        f0: `[frames]` in Hz.
    """
    voiced = (f0 > config.nsf_voiced_threshold)[:, None, None]
    sines = config.nsf_alpha * np.sin(np.float32(2 * np.pi) * cycles.astype(np.float32))
    level = np.where(voiced, config.nsf_sigma, config.nsf_alpha / 3)
    mixed: np.ndarray = (np.where(voiced, sines, 0.0) + level * noise).astype(np.float32)
    return mixed


SOURCES: dict[str, Callable[[HiftConfig, int], Source]] = {
    "interpolated": InterpolatedSource,
    "running": RunningSource,
    "stepped": lambda config, _seed: SteppedSource(config),
}
"""By `HiftConfig.excitation`."""


def harmonic_source(config: HiftConfig, seed: int) -> Source:
    """Return the excitation of that vocoder; the seed decides its noise, except for the fixed noise of v3."""
    return SOURCES[config.excitation](config, seed)


def harmonics(f0: np.ndarray, config: HiftConfig, seed: int) -> np.ndarray:
    """Return the harmonics `[nb_harmonics + 1, hop * frames]` of a whole utterance, f0 `[frames]` in Hz."""
    source = harmonic_source(config, seed)
    return np.concatenate([source.push(f0), source.finish()], axis=1)
