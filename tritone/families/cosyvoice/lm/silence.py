"""Runs of silence in CosyVoice 3's speech tokens, shortened before they reach the flow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

SILENT_TOKENS = frozenset((1, 2, 28, 29, 55, 248, 494, 2241, 2242, 2322, 2323))
"""Codes of silence and breath of v3; the published v1 and v2 have none."""
LONGEST_RUN = 5


def without_long_silence(tokens: Iterable[int], silent: frozenset[int]) -> Iterator[int]:
    """Yield the tokens as they come, without those that exceed `LONGEST_RUN` of `silent` in a row.

    The language model's own context keeps them all: only what is spoken is shortened.
    """
    run = 0
    for token in tokens:
        run = run + 1 if token in silent else 0
        if run <= LONGEST_RUN:
            yield token
