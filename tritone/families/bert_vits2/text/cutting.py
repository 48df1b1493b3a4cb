"""Places where a text without spaces may be cut: between the words of Chinese, between the phrases of Japanese."""

from __future__ import annotations

import re
from collections.abc import Callable

from tritone.families.bert_vits2.text.chinese import words_of
from tritone.families.bert_vits2.text.japanese import phrases_of

_NUMERALS = "零〇一二三四五六七八九十百千万亿億兆两幺点分之负第"
_ENDS_OPEN = re.compile(f"(?:[{_NUMERALS}]|百分之|分之|点|[A-Za-z\\d])$")
_STARTS_OPEN = re.compile(f"[{_NUMERALS}A-Za-z\\d]")
_COUNTED = re.compile("[零〇一二三四五六七八九十百千万亿億兆两幺\\d]$")


def cutter(language: str) -> Callable[[str], list[str]] | None:
    """Return the function that divides a stretch without spaces into words; None if the language has spaces."""
    return {"ZH": _chinese, "JP": _japanese}.get(language)


def _chinese(text: str) -> list[str]:
    return joined(words_of(text))


def _japanese(text: str) -> list[str]:
    return joined(phrases_of(text))


def joined(words: list[str]) -> list[str]:
    """Return the words with every number whole, and with the unit or counter that follows it."""
    result: list[str] = []
    for word in words:
        open_number = result and (
            (_ENDS_OPEN.search(result[-1]) and _STARTS_OPEN.match(word)) or _COUNTED.search(result[-1])
        )
        if open_number or (result and not any(character.isalnum() for character in word)):
            result[-1] += word
        else:
            result.append(word)
    return result
