"""What stands in for the BERT features of languages that a text is not in.

The networks always sum three BERT streams, and every version was trained with something else in the unused ones. The
published code draws it anew at every call, so that its speech is never twice the same; here it comes from a seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tritone.errors import ConfigError

KINDS = ("zeros", "uniform", "normal")
BY_VERSION = {"2.0": "zeros", "2.1": "zeros", "2.2": "uniform", "2.3": "normal"}
"""What each version was trained with; uniform is in 0..1, normal has deviation 1."""


def filler(kind: str, shape: tuple[int, ...], seed: int | Sequence[int]) -> np.ndarray:
    """Filler of one of `KINDS`, float32 of that shape; the random kinds depend on `seed` (numbers >= 0) alone.

    Raises ConfigError for another kind.
    """
    return fillers(kind, seed)(shape)


def fillers(kind: str, seed: int | Sequence[int]) -> Callable[[tuple[int, ...]], np.ndarray]:
    """`draw(shape)`: fillers for one request, one after another from one seed, none of them alike."""
    if kind not in KINDS:
        raise ConfigError(f"there is no BERT filler {kind!r}; there are {', '.join(KINDS)}.")
    rng = np.random.default_rng(seed)

    def draw(shape: tuple[int, ...]) -> np.ndarray:
        if kind == "zeros":
            return np.zeros(shape, np.float32)
        return rng.random(shape, np.float32) if kind == "uniform" else rng.standard_normal(shape, np.float32)

    return draw
