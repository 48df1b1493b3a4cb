"""The common part of the rules of Mandarin and Japanese: how numbers and addresses are written, and how rules run."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable

from tritone.errors import InvalidRequest
from tritone.text.reading.plain import plain_text

Rule = tuple[re.Pattern[str], Callable[[re.Match[str]], str]]
"""A written form, and the words for what it matches."""

NUMBER = r"(?:[1-9]\d{0,2}(?:,\d{3}){1,9}(?!\d)|\d+)(?:\.\d+)?"
"""A number as it is written: digits, perhaps in groups of three, perhaps with a fraction."""
LONGEST = 16
"""The most digits of a number that has a name; the digits of a longer one are said one by one."""
ENDLESS = re.compile(r"\d{40,}")
"""More digits than any number has: without a rule for them, every other rule would try each part of them."""
MAIL = re.compile(r"(?<![A-Za-z0-9])[A-Za-z0-9][A-Za-z0-9._+-]{0,63}@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+")
SITE = re.compile(r"(?<![A-Za-z0-9.])(?:[A-Za-z][A-Za-z0-9-]*\.)+[A-Za-z]{2,}(?:/[A-Za-z0-9._/?=&-]*)?(?![A-Za-z0-9])")
MACHINE = re.compile(r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?![\d.]*\d)")
VERSION = re.compile(r"(?<![\d.])(?![12]\d{3}\.\d{1,2}\.\d{1,2}(?![\d.]))\d+(?:\.\d+){2,}(?![\d.]*\d)")


def in_words(text: str, rules: Iterable[Rule], language: str) -> str:
    """Return a text after all rules, one after the other; raise InvalidRequest for a currency sign that is left."""
    text = plain_text(text)
    for pattern, spoken in rules:
        text = pattern.sub(spoken, text)
    for character in text:
        if unicodedata.category(character) == "Sc":
            raise InvalidRequest(
                "target_text",
                f"has the currency sign {character!r}, whose name in {language} is unknown; write the name",
            )
    return text


def number_in_words(written: str, cardinal: Callable[[str], str], one_by_one: Callable[[str], str]) -> str:
    """Return a number as it is written (1,234.50, 007, .5) in words; every digit of it is said."""
    whole, point, rest = written.replace(",", "").partition(".")
    spoken = one_by_one(whole) if len(whole) > 1 and whole[0] == "0" else cardinal(whole or "0")
    return spoken + "点" * bool(point) + one_by_one(rest)
