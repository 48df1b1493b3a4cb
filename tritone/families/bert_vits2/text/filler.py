"""Filler for the BERT streams of languages that a text is not in.

The networks always sum three BERT streams, and each version was trained with another filler in the unused ones. The
published code draws it at every call, so that its speech is never the same twice; here it is drawn from a seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tritone.errors import ConfigError

KINDS = ("zeros", "uniform", "normal")
BY_VERSION = {"2.0": "zeros", "2.1": "zeros", "2.2": "uniform", "2.3": "normal"}
"""The filler each version was trained with; uniform is in 0..1, normal has mean 0 and deviation 1."""


def filler(kind: str, shape: tuple[int, ...], seed: int | Sequence[int]) -> np.ndarray:
    """Return filler of one of `KINDS`, float32 of that shape.

    The random kinds depend on `seed` (numbers >= 0) alone.

    Raises ConfigError for an unknown kind.
    """
    return fillers(kind, seed)(shape)


def fillers(kind: str, seed: int | Sequence[int]) -> Callable[[tuple[int, ...]], np.ndarray]:
    """Return `draw(shape)`, which returns a new filler of a request at every call, all from one seed."""
    if kind not in KINDS:
        raise ConfigError(f"unknown BERT filler {kind!r}; the fillers are {', '.join(KINDS)}.")
    rng = np.random.default_rng(seed)

    def draw(shape: tuple[int, ...]) -> np.ndarray:
        if kind == "zeros":
            return np.zeros(shape, np.float32)
        return rng.random(shape, np.float32) if kind == "uniform" else rng.standard_normal(shape, np.float32)

    return draw
