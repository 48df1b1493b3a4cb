"""Numbers in Japanese words: Chinese numerals, which readers of Japanese join with the counter that follows."""

from __future__ import annotations

import re

from tritone.text.reading.han_rules import LONGEST, number_in_words

DIGITS = "〇一二三四五六七八九"

_GROUPS = ("", "万", "億", "兆")
_PLACES = ("", "十", "百", "千")


def one_by_one(written: str) -> str:
    """Return each digit in words; other characters stay."""
    return "".join(DIGITS[int(d)] if d.isdecimal() else d for d in written)


def cardinal(digits: str) -> str:
    """Return a whole number in words: 1000 -> 千, 10000 -> 一万, 10000000 -> 一千万."""
    digits = digits.lstrip("0") or "0"
    if len(digits) > LONGEST:
        return one_by_one(digits)
    if digits == "0":
        return "零"
    words = ""
    for index in range((len(digits) - 1) // 4, -1, -1):
        end = len(digits) - 4 * index
        value = int(digits[max(end - 4, 0) : end])
        if value:
            words += ("一千" + _group(value % 1000) if index and value // 1000 == 1 else _group(value)) + _GROUPS[index]
    return words


def number(written: str) -> str:
    """Return a number as it is written (1,234.50, 007, .5) in words; every digit of it is said."""
    return number_in_words(written, cardinal, one_by_one)


def minutes(digits: str) -> str:
    """Return minutes after an hour; those that would be taken for another word (五分, half) are in kana."""
    value = int(digits)
    return {5: "ごふん", 8: "はっぷん", 12: "十二ふん"}.get(value, f"{cardinal(str(value))}分")


def _group(value: int) -> str:
    """Return a number up to 9999; 一 is not said before 十, 百 and 千."""
    words = ""
    for place in (3, 2, 1, 0):
        digit = value // 10**place % 10
        if digit:
            words += DIGITS[digit] * (digit > 1 or place == 0) + _PLACES[place]
    return re.sub("^$", "", words)
