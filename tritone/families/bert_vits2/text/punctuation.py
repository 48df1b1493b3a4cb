"""Punctuation of any script as the seven marks that have a symbol."""

from __future__ import annotations

import re

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
_LINES = re.compile(r"\s*\n\s*")


def known_marks(text: str) -> str:
    """The text with its punctuation as the known marks: quotes and brackets as ', dashes as -, dots as …, a new line
    as a full stop where the line does not end with a mark already.
    """
    lines = [line for line in _LINES.split(text.strip()) if line]
    text = "".join(line if line[-1:] in "。.!?！？…,，、;；:：" else line + "." for line in lines[:-1]) + "".join(
        lines[-1:]
    )
    return _DASHES.sub("-", _DOTS.sub("…", text).translate(_TABLE))
