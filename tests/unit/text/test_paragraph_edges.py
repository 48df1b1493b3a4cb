"""Segments at the exact lengths where the published rules change: 60, 80 and 20."""

from __future__ import annotations

import pytest

from tritone.text.paragraph import LONGEST, SHORTEST, STUB, paragraphs


def sentence(length: int, letter: str) -> str:
    return letter * (length - 1) + "."


@pytest.mark.parametrize(
    ("lengths", "segments"),
    [
        ((SHORTEST, 50), 1),  # closed only once it is longer than 60
        ((SHORTEST + 1, 50), 2),
        ((SHORTEST + 1, LONGEST - SHORTEST - 1), 1),  # 80 together still join
        ((SHORTEST + 1, LONGEST - SHORTEST), 2),  # a last segment of exactly 20 stays by itself
        ((SHORTEST + 2, STUB - 1), 1),  # 81 together, but the rest is shorter than 20
        ((SHORTEST + 1, STUB), 2),
    ],
)
def test_segments_change_at_the_published_lengths(lengths: tuple[int, int], segments: int) -> None:
    text = sentence(lengths[0], "a") + sentence(lengths[1], "b")
    found = paragraphs(text, len, chinese=False)
    assert len(found) == segments and "".join(found) == text
