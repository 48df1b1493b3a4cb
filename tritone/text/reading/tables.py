"""Tables of words, written as text."""

from __future__ import annotations


def words(text: str) -> tuple[str, ...]:
    """Return the words of a text, which is easier to read and to keep than a list of strings."""
    return tuple(text.split())
