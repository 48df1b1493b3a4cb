"""Long silence of v3 is shortened as it passes; the other versions have none to shorten."""

from __future__ import annotations

from collections.abc import Iterator

from tritone.families.cosyvoice.lm.silence import LONGEST_RUN, SILENT_TOKENS, without_long_silence
from tritone.families.cosyvoice.versions import VERSIONS


def test_runs_are_cut_to_five_whatever_silence_they_are_of() -> None:
    tokens = [7, 1, 2, 28, 29, 55, 248, 494, 9, 1, 1, 2323]
    assert list(without_long_silence(tokens, VERSIONS[3].silent_tokens)) == [7, 1, 2, 28, 29, 55, 9, 1, 1, 2323]
    assert list(without_long_silence([1] * 20, VERSIONS[3].silent_tokens)) == [1] * LONGEST_RUN


def test_v1_and_v2_keep_everything() -> None:
    for version in (1, 2):
        assert list(without_long_silence([1] * 20, VERSIONS[version].silent_tokens)) == [1] * 20


def test_the_published_ids() -> None:
    assert sorted(SILENT_TOKENS) == [1, 2, 28, 29, 55, 248, 494, 2241, 2242, 2322, 2323]


def test_tokens_pass_as_soon_as_they_come() -> None:
    taken: list[int] = []

    def source() -> Iterator[int]:
        for token in (7, 1, 8):
            taken.append(token)
            yield token

    passing = without_long_silence(source(), VERSIONS[3].silent_tokens)
    assert next(passing) == 7 and taken == [7]
