"""Roman numerals in Chinese numerals, for Chinese and Japanese text."""

from __future__ import annotations

ROMAN = r"(?=[IVXLC])(?:C{0,3}(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3}))"
"""A pattern of Roman numerals up to 399."""

_VALUES = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100}


def roman(written: str) -> str:
    """Return a Roman numeral in Chinese numerals: XIV -> 十四; "" for ""."""
    values = [_VALUES[letter] for letter in written]
    total = sum(-value if value < max(values[i:]) else value for i, value in enumerate(values))
    hundreds, tens, ones = total // 100, total // 10 % 10, total % 10
    words = ("一二三"[hundreds - 1] * (hundreds > 1) + "百") if hundreds else ""
    words += ("一二三四五六七八九"[tens - 1] * (tens > 1) + "十") if tens else ""
    return words + ("一二三四五六七八九"[ones - 1] if ones else "")
