"""Punctuation of any script replaced by the seven marks that have a symbol."""

from __future__ import annotations

import re

from tritone.errors import InvalidRequest
from tritone.families.bert_vits2.text.symbols import PUNCTUATION

MARKS = re.escape("".join(PUNCTUATION))
_AS = {
    ",": "，、；：;:·・､،",
    ".": "。．｡",
    "!": "！¡",
    "?": "？¿",
    "…": "⋯",
    "'": '‘’‛ʼ`´“”„"«»‹›「」『』《》〈〉【】〔〕（）()[]［］{}｛｝＂＇',
    "-": "‐‑‒–—―−－~～〜",
}
_TABLE = str.maketrans({other: mark for mark, others in _AS.items() for other in others})
_DOTS = re.compile(r"\.{2,}|。{2,}|…{2,}|・{3,}|⋯{2,}")
_DASHES = re.compile(r"-{2,}")
_ENDS = "。.!?！？…,，、;；:："
_LINES = re.compile(r"\s*\n\s*")


def known_marks(text: str) -> str:
    """Return the text in one line with the known marks as its punctuation.

    Quotes and brackets become ', dashes -, and runs of dots ….
    """
    return _DASHES.sub("-", _DOTS.sub("…", one_line(text)).translate(_TABLE))


def one_line(text: str) -> str:
    """Return the text with spaces for line breaks, and a full stop after a line that ended without a mark."""
    lines = [line for line in _LINES.split(text.strip()) if line]
    return " ".join([*(line if line[-1] in _ENDS else line + "." for line in lines[:-1]), *lines[-1:]])


def refuse_unsaid(text: str, known: str, language: str) -> None:
    """Raise InvalidRequest for words in letters that a language does not have: they would be left out in silence.

    Args:
        known: the letters that the language has, as in a character class.
    """
    pieces = re.findall(f"[^\\W\\d_{known}]+", text)
    if pieces:
        named = ", ".join(map(repr, dict.fromkeys(pieces)))
        raise InvalidRequest(
            "target_text",
            f"has {named[:80]}, which {language} cannot say; write it in letters of {language}, or leave it out",
        )
