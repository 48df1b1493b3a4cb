"""Signs in words: mathematics, hashes, ampersands, and the marks of plain-text mark-up, which are left out."""

from __future__ import annotations

import re

_RULES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.MULTILINE), words)
    for pattern, words in (
        (r"^[ \t]{0,3}#{1,6}\s+(?=\S)", ""),
        (r"^[ \t]{0,8}(?:[*•·▪◦‣-]|\+(?=\s))\s+(?=\S)", ""),
        (r"\*{1,3}(?=\S)(.+?)(?<=\S)\*{1,3}", r"\1"),
        (r"(?<!\w)_{1,2}(?=\S)([^_\n]+?)(?<=\S)_{1,2}(?!\w)", r"\1"),
        (r"`{1,3}", ""),
        (r"(?<!\w)([CF])#(?!\w)", r"\1 sharp"),
        (r"\bC\+\+(?!\w)", "C plus plus"),
        (r"#\s?(?=\d)", "number "),
        (r"(?<!\w)#(?=[A-Za-z])", "hashtag "),
        (r"(?<=\s)#(?=\s|$)", "hash"),
        (r"\s?(?:<=|≤|⩽)\s?", " is less than or equal to "),
        (r"\s?(?:>=|≥|⩾)\s?", " is greater than or equal to "),
        (r"\s?(?:!=|≠)\s?", " is not equal to "),
        (r"(?<=[\w)]) ?(?:->|→|⇒|=>) ?(?=[\w(])", " to "),
        (r"(?<=[\w)]) < (?=[\w(.+-])|(?<=\d)<(?=[\d.-])", " is less than "),
        (r"(?<=[\w)]) > (?=[\w(.+-])|(?<=\d)>(?=[\d.-])", " is greater than "),
        (r"(?:(?<=\s)|^)<\s?(?=[$€£]?\d)", "less than "),
        (r"(?:(?<=\s)|^)>\s?(?=[$€£]?\d)", "more than "),
        (r"\s?[≈≅≃]\s?", " is about "),
        (r"(?:(?<=[\s(])|^)~\s?(?=[$€£]?\d)", "about "),
        (r"(?<=\d)\s?\*\s?(?=\d)", " times "),
        (r"(?<=[A-Za-z])(\s?)±(\s?)", r"\1plus or minus\2"),
        (r"√\s?", " the square root of "),
        (r"∞", " infinity "),
        (r"(?<!\w)π(?!\w)", "pi"),
        (r"§§?\s?", " section "),
        (r"¶\s?", " paragraph "),
        (r"©\s?", " copyright "),
    )
)
_WORDS = {
    **{"&": "and", "=": "equals", "×": "times", "÷": "divided by", "±": "plus or minus", "@": "at", "+": "plus"},
    **{"∼": "about", "∑": "sum", "∆": "delta", "µ": "micro", "‱": "per ten thousand"},
}
_AND_OR = re.compile(r"\band/or\b")


def signs_in_words(text: str) -> str:
    """Return the text with signs in words, before its numbers are: #5 -> number 5."""
    text = _AND_OR.sub("and or", text)
    for pattern, words in _RULES:
        text = pattern.sub(words, text)
    return text


def leftover_signs(text: str) -> str:
    """Return the text with the signs that no other rule has read in words."""
    for sign, words in _WORDS.items():
        if sign in text:
            text = re.sub(rf"\s?{re.escape(sign)}\s?", f" {words} ", text)
    return text
